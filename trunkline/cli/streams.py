"""Standard output and standard error that no character, full disk or closed end turns into a traceback.

A run of hours must not end because of a name that a terminal cannot show, or because nobody reads its
progress any more. Knows streams alone.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO


class Aside(io.TextIOWrapper):
    """Standard error: what cannot be said there is not said, because there is nobody to complain to."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.buffer, stream.encoding, stream.errors, line_buffering=True)
        self._stream = stream  # which would close the buffer at its own end

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # ValueError: it was closed
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):  # ValueError: it was closed
            super().flush()


def settle() -> None:
    """Makes both streams writable for every text; once, before anything is printed.

    What the encoding lacks is written as an escape (`\\u2026`); a closed stream swallows what it gets.
    """
    if sys.stdin is None:  # a closed stream's number goes to the next file that is opened: to these, in order
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    sys.stdout = _lenient(sys.stdout)
    sys.stderr = Aside(_lenient(sys.stderr))


def _lenient(stream: TextIO | None) -> io.TextIOWrapper:
    if not isinstance(stream, io.TextIOWrapper):  # closed before Python began
        return _nowhere()
    if stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="backslashreplace")
    return stream


def is_unicode(stream: TextIO) -> bool:
    """Whether it takes every character; elsewhere JSON has to be ASCII, whose escapes are JSON's own."""
    return codecs.lookup(getattr(stream, "encoding", None) or "ascii").name.startswith("utf")


def flushed() -> bool:
    """Whether all of standard output has arrived; if not, that is told and Python need not try again."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:  # a closed pipe is how `head` says that it has enough
            sys.stderr.write(f"error: standard output: {error.strerror}\n")
        sys.stdout = _nowhere()
        return False
    return True


def _nowhere() -> io.TextIOWrapper:
    return open(os.devnull, "w", encoding="utf-8")
