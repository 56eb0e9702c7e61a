"""Between our errors and a traceback: expected ones become one sentence on stderr and exit status 1.

Errors of the other packages are recognised by the name of their base class, so that nothing heavy is imported
to find out. Whatever is not expected keeps its traceback, because then it is a bug.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from trunkline.cli.printing import note

P = ParamSpec("P")
T = TypeVar("T")

FAILED = 1
INTERRUPTED, TERMINATED = 130, 143  # what a shell makes of SIGINT and SIGTERM
PACKAGES = frozenset({"trunkline", "training", "service", "proof", "modeling", "adapters_store"})


class Terminated(BaseException):
    """SIGTERM, raised where the program was, so that whatever cleans up after an error does. Not a
    KeyboardInterrupt: of one that has passed an `exec`, such as an import's, Python dies at its end.
    """


def guarded(command: Callable[P, T]) -> Callable[P, T]:
    """`command`, with every expected error printed and turned into exit status 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            if not is_expected(error):
                raise
            print_error(error)
            raise SystemExit(FAILED) from error
        except (KeyboardInterrupt, Terminated) as stop:
            note("stopped")
            raise SystemExit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None

    return run


def is_expected(error: Exception) -> bool:
    """Whether the error is about the input or the surroundings: one of our trees, or an unusable file."""
    if isinstance(error, OSError):
        return error.errno != errno.EPIPE
    return any(
        base.__module__.split(".")[0] in PACKAGES and base.__name__.endswith("Error")
        for base in type(error).__mro__
    )


def print_error(error: Exception) -> None:
    """The sentence, then every failure it lists, then what the server's log is searched for."""
    failures = [str(failure) for failure in _listed(error)]
    note(f"error: {_sentence(error, failures)}")
    for failure in failures:
        note(f"  - {failure}")
    if request_id := getattr(error, "request_id", ""):
        note(f"  (request {request_id})")


def _sentence(error: Exception, failures: list[str]) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error) or type(error).__name__
    if failures and text == " | ".join(failures):
        return "rows that cannot be used"
    start = failures[0].split(" got ", 1)[0] + " got " if failures else ""
    if start and start in text:  # some packages join the failures into the message: each is told once
        text = text[: text.index(start)].rstrip(" :") or f"{len(failures)} things are wrong"
    return text


def _listed(error: Exception) -> Sequence[object]:
    """The failures of an error, under the name that its package uses."""
    for name in ("errors", "failures"):
        listed = getattr(error, name, None)
        if isinstance(listed, list | tuple):
            return listed
    return ()
