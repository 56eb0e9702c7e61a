"""Immutable files named by the digest of their bytes; knows nothing of tasks, only which digests are in use.

The one race that numbered commits cannot settle is between a publisher that relies on a file already there
and a remover that finds it unused. A file lock settles it: publishers share it from before they look until
after they commit, the remover holds it alone. The system releases it when a process dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from adapters_store import durable
from adapters_store.errors import Corrupt

_FILE_NAME = re.compile(r"sha256-([0-9a-f]{64})\.safetensors")


def digest_of(data: bytes) -> str:
    """`sha256:` and the hex digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Blobs:
    """The files of one folder. Safe for threads and processes."""

    def __init__(self, folder: Path, *, temporary: Path, lock: Path) -> None:
        self._folder, self._temporary, self._lock = folder, temporary, lock

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While it is held, no file is removed: publishers hold it until their commit is durable."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def alone(self, *, wait: bool = True) -> Iterator[None]:
        """While it is held nobody publishes. Without `wait`, raises BlockingIOError where somebody does."""
        with self._locked(fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    def put(self, data: bytes) -> str:
        """Makes `data` durable under its digest and returns that; a damaged file of that name is replaced."""
        digest = digest_of(data)
        path = self._path(digest)
        if not durable.put_if_absent(path, data, self._temporary) and path.read_bytes() != data:
            durable.replace(path, data, self._temporary)
        return digest

    def read(self, digest: str) -> bytes:
        """The bytes of this digest. Raises FileNotFoundError, and Corrupt when they are not those bytes."""
        data = self._path(digest).read_bytes()
        if digest_of(data) != digest:
            raise Corrupt(f"the stored file {digest} does not have that digest; publish the same bytes again")
        return data

    def remove(self, digests: Iterable[str]) -> None:
        """Removes files, with the lock held alone."""
        for digest in digests:
            durable.remove(self._path(digest))

    def remove_except(self, used: set[str]) -> None:
        """Removes every other file, with the lock held alone."""
        self.remove(self._digests() - used)

    def _digests(self) -> set[str]:
        matches = (_FILE_NAME.fullmatch(name) for name in os.listdir(self._folder))
        return {f"sha256:{match[1]}" for match in matches if match}

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.replace(':', '-')}.safetensors"

    @contextlib.contextmanager
    def _locked(self, operation: int) -> Iterator[None]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o644)  # own descriptor: threads exclude too
        try:
            fcntl.flock(descriptor, operation)
            yield
        finally:
            os.close(descriptor)
