"""The names of all tasks in order: pages of them, and which one a caller may have meant.

Pure. Whatever is asked costs the same with ten tasks and with a million: nothing here looks at more than a
fixed number of names.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterator
from itertools import chain
from string import ascii_lowercase, digits
from typing import NamedTuple

MAX_SCANNED = 16_384  # names that one page of a search looks at
NEIGHBOURS = 16  # names before, and after, the place of an unknown one that may be meant by it

_LETTERS = ascii_lowercase + digits + "._-"  # of which names are made (adapters_store.names)
_EDITED_CHARS = range(3, 65)  # one letter more or less says nothing of a shorter name; longer ones are none


class NamePage(NamedTuple):
    """Names in order, and after which one to go on; None: there are no more."""

    names: list[str]
    next: str | None


class Names:
    """A sorted list: finding a place is a bisection, and adding a name moves pointers and reads none."""

    def __init__(self) -> None:
        self._sorted: list[str] = []

    def add(self, name: str) -> None:
        """Enter a name that is not there; those of a start come in order, each at the end."""
        self._sorted.insert(bisect_left(self._sorted, name), name)

    def remove(self, name: str) -> None:
        """Take a name out that is there."""
        place = bisect_left(self._sorted, name)
        assert self._sorted[place] == name, f"{name} is not among the names; this is a bug"
        del self._sorted[place]

    def page(self, after: str, limit: int, part: str) -> NamePage:
        """At most `limit` names behind `after` that have `part` in them.

        A search ends after MAX_SCANNED names, so that a page may have few names, or none, and yet a `next`.
        """
        start = bisect_right(self._sorted, after)
        scanned = self._sorted[start : start + (MAX_SCANNED if part else limit)]
        found = [(place, name) for place, name in enumerate(scanned) if part in name][:limit]
        num_read = found[-1][0] + 1 if len(found) == limit else len(scanned)
        last = start + num_read - 1
        is_end = last + 1 >= len(self._sorted)
        return NamePage([name for _, name in found], None if is_end else self._sorted[last])

    def near(self, name: str, known: Container[str]) -> str | None:
        """The name that is most like an unknown one; `known` says quickly whether there is such a name.

        Another spelling or one slip of the keys is found wherever it is, anything else among the neighbours.
        """
        for spelling in chain(_spellings(name), _edits(name)):
            if spelling != name and spelling in known:
                return spelling
        place = bisect_left(self._sorted, name)
        neighbours = self._sorted[max(0, place - NEIGHBOURS) : place + NEIGHBOURS]
        return next(iter(difflib.get_close_matches(name[:64], neighbours, n=1)), None)


def _spellings(name: str) -> Iterator[str]:
    plain = "-".join(name.lower().split())
    yield from (plain, plain.replace("_", "-"), plain.replace("-", "_"))


def _edits(name: str) -> Iterator[str]:
    """What one letter more, less, another or two that changed places make of a name.

    Damerau, A technique for computer detection and correction of spelling errors (1964).
    """
    if len(name) not in _EDITED_CHARS:
        return
    halves = [(name[:place], name[place:]) for place in range(len(name) + 1)]
    for left, right in halves:
        if right:
            yield left + right[1:]
        if len(right) > 1:
            yield left + right[1] + right[0] + right[2:]
    for left, right in halves:
        for letter in _LETTERS:
            yield left + letter + right
            if right:
                yield left + letter + right[1:]
