"""The folders of a store: made, and tried, before anything rests on them. Knows no tasks and no adapters.

A folder that cannot be written may still be read: a snapshot, a replica, another user's store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from adapters_store import durable
from adapters_store.errors import FullStore, ReadOnlyStore, UnusableStore

_MAY_NOT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def prepare(root: Path) -> str | None:
    """Makes what is missing and tries a write; None, or why the store is read-only.

    A full disk is not told here: it can have room again by the time of a write.

    Raises UnusableStore: there is nothing to read, or the file system lacks what every change needs.
    """
    try:
        for name in ("adapters", "tasks", "temporary"):
            durable.make_folder(root / name)
        _try_to_write(root)
    except OSError as error:
        readable = _readable(root)
        if error.errno in _NO_ROOM and readable is None:
            return None
        if error.errno in _MAY_NOT and readable is None:
            return _reason(error)
        remedy = f"name a folder that user {os.geteuid()} can write, or that holds a store (--store)"
        why = _reason(error) if readable in (None, _reason(error)) else f"{_reason(error)}; {readable}"
        raise UnusableStore(f"the store {root} cannot be used: {why}; {remedy}") from error
    return None


@contextlib.contextmanager
def changing(root: Path, read_only: str | None) -> Iterator[None]:
    """Around every change. Raises ReadOnlyStore, FullStore; then nothing has changed. Other OSErrors pass."""
    if read_only is not None:
        raise _refusal(root, read_only)
    try:
        yield
    except OSError as error:
        if error.errno in _MAY_NOT:
            raise _refusal(root, _reason(error)) from error
        if error.errno in _NO_ROOM:
            told = f"the store {root} has no room: {_reason(error)}; make some, then send this again"
            raise FullStore(told) from error
        raise


def _refusal(root: Path, reason: str) -> ReadOnlyStore:
    return ReadOnlyStore(
        f"the store {root} is read-only ({reason}): nothing in it can be changed here. Send this to a server "
        f"that may write it, or let user {os.geteuid()} write the folder and start again"
    )


def _try_to_write(root: Path) -> None:
    """Every step of a publish, with an empty file that is swept if this is killed. Raises OSError."""
    trial = root / "temporary" / f".{os.getpid()}-{uuid.uuid4().hex}.trial.tmp"
    durable.put_if_absent(trial, b"", trial.parent)
    durable.remove(trial)
    for folder in (root / "adapters", root / "tasks"):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with contextlib.suppress(BlockingIOError):  # somebody holds it, so it can be held
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def _readable(root: Path) -> str | None:
    """None, or why nothing can be read."""
    try:
        for name in ("adapters", "tasks"):
            os.listdir(root / name)
    except OSError as error:
        return _reason(error)
    return None


def _reason(error: OSError) -> str:
    return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
