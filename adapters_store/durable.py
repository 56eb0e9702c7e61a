"""The only place that makes files durable: temporary file, fsync, link or rename, fsync of the folder.

Where the file system has no hard links, a lock and a rename do what a link does. Knows nothing of adapters or
commits. Every function leaves either the old file or the whole new one, at
whatever instant the process or the machine stops. Errors of the file system pass through as OSError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

_READABLE = 0o644
# What `link` says where there are no hard links (FAT, many network and FUSE file systems), or none is left.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EXDEV}
)


def make_folder(folder: Path) -> None:
    """Creates `folder` and its missing parents, each made durable in its own parent.

    An existing folder is made durable too: whoever created it may not have come so far yet.
    """
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes names that were added to or removed from `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_if_absent(target: Path, data: bytes, temporary: Path) -> bool:
    """Creates `target` with `data` unless it exists; returns whether it was created.

    Either way it is durable afterwards. `temporary` is a folder on the same file system.
    """
    with _written(temporary, data) as source:
        try:
            os.link(source, target)  # fails, atomically, when the name is taken; rename would replace it
            created = True
        except FileExistsError:
            created = False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            created = _rename_if_absent(source, target, temporary)
    sync_folder(target.parent)
    return created


def _rename_if_absent(source: Path, target: Path, temporary: Path) -> bool:
    """What a link does, in two steps that the other writers wait for; a kill leaves one name or the other.

    All writers of a file system come this way or none does. The system releases the lock of a dead process.
    """
    descriptor = os.open(temporary / ".rename.lock", os.O_RDWR | os.O_CREAT, _READABLE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(target):
            return False
        os.replace(source, target)
        return True
    finally:
        os.close(descriptor)


def replace(target: Path, data: bytes, temporary: Path) -> None:
    """Creates or replaces `target` with `data`. `temporary` is a folder on the same file system."""
    with _written(temporary, data) as source:
        os.replace(source, target)
    sync_folder(target.parent)


def remove(target: Path) -> None:
    """Removes `target` if it is there."""
    target.unlink(missing_ok=True)
    sync_folder(target.parent)


@contextlib.contextmanager
def _written(folder: Path, data: bytes) -> Iterator[Path]:
    """A durable temporary file with `data`, removed afterwards unless it was renamed away."""
    path = folder / f".{os.getpid()}-{uuid.uuid4().hex}.tmp"
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _READABLE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)
