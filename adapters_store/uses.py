"""How many live versions use each stored file, kept while it is known: a delete looks at nothing else.

The counts are those of this process. Before a process changes what is used it adds a byte to the file
`changes`, so that a length other than expected tells the others that their counts are worth nothing; then
all logs are read again.
Whoever changes holds the store's lock (`blobs.Blobs`): publishers share it, a delete or a count has it alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from adapters_store.errors import StoreError


class Uses:
    """Counts by digest. Safe for threads and processes, under the lock of the store."""

    def __init__(self, changes: Path) -> None:
        self._path = changes
        self._counts: Counter[str] | None = None  # None: not known
        self._num_changes = 0  # the length of the file while the counts are right
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Around a commit that may change what is used. One that may or may not be there ends the counts."""
        with self._guard, self._changes(os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
            self._num_changes += os.write(file, b".")
        try:
            yield
        except StoreError:  # refused: nothing was written
            raise
        except BaseException:
            self._counts = None
            raise

    def learn(self, digests: Iterable[str]) -> None:
        """The digests of all live versions, read with the lock held alone."""
        with self._guard:
            self._counts = Counter(digests)
            self._num_changes = self._length()

    def add(self, digest: str) -> None:
        """One more version uses it."""
        with self._guard:
            if self._counts is not None:
                self._counts[digest] += 1

    def remove(self, digests: Sequence[str]) -> list[str] | None:
        """Versions that are gone used these: which of them nobody uses now; None if that is not known."""
        with self._guard:
            if self._counts is None or self._length() != self._num_changes:
                return None
            self._counts.subtract(digests)
            unused = [digest for digest in digests if self._counts[digest] <= 0]
            for digest in unused:
                del self._counts[digest]
            return unused

    def _length(self) -> int:
        try:
            with self._changes(os.O_RDWR) as file:
                return os.fstat(file).st_size
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def _changes(self, flags: int) -> Iterator[int]:
        """Alone with the file, opened anew: on a network its length may be an old one otherwise."""
        descriptor = os.open(self._path, flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)
