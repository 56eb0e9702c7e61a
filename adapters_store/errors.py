"""Every error that `adapters_store` raises, and how a refused value is shown; knows nothing of HTTP."""

# ruff: noqa: N818 - they are words of the store, and read as such where they are caught

from __future__ import annotations

import reprlib
from collections.abc import Sequence

from failures import Failure

MAX_FAILURES = 1_000
"""Most failures that one error lists: a hostile file must not get an answer larger than itself."""

_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother, _SHOWN.maxlong = 3, 80, 80, 40


def show(value: object) -> str:
    """A short, bounded picture of an untrusted value, fit for a message or a log line."""
    return _SHOWN.repr(value)


class StoreError(Exception):
    """Base of all errors of this package."""


class NotFound(StoreError):
    """The store has no such task, version or alias."""


class Conflict(StoreError):
    """The request contradicts the state of the store."""


class PreconditionFailed(Conflict):
    """The task has changed since the caller looked at it (HTTP's If-Match)."""


class UnusableStore(StoreError):
    """The folder holds no store and cannot be made one, or what it holds cannot be read."""


class ReadOnlyStore(StoreError):
    """The folder of the store cannot be written: it is served, and nothing in it changes."""


class FullStore(StoreError, OSError):
    """The disk of the store has no room; nothing has changed."""


class Corrupt(StoreError):
    """Bytes in the store are not what was written."""


class InvalidName(StoreError, ValueError):
    """A task, alias or reference is not of the fixed form, so it never reaches the file system."""


class AdapterFileError(StoreError):
    """An adapter file is refused, with every reason: `failures`, over HTTP `errors`."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = _capped(failures)
        count = len(failures)
        noun = "problem" if count == 1 else "problems"
        listed = "; ".join(str(failure) for failure in self.failures)
        super().__init__(f"the adapter file is refused ({count} {noun}): {listed}")


def _capped(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    if len(failures) <= MAX_FAILURES:
        return tuple(failures)
    rest = len(failures) - MAX_FAILURES
    note = Failure("file", f"{rest} more problems", "none", "Correct the ones listed and check again.")
    return (*failures[:MAX_FAILURES], note)
