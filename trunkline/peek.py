"""Reads the task's name from the head of an adapter file, so that the client needs no torch and no store.

Only the name: whether the file is good is for the server, `trunkline inspect` and `trunkline check` to say.
"""

from __future__ import annotations

import json

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000


def peek_task(data: bytes) -> str | None:
    """The task named in the manifest; None when `data` does not begin like an adapter file."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if len(data) < LENGTH_BYTES or length > min(len(data) - LENGTH_BYTES, MAX_HEADER_BYTES):
        return None
    try:
        header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length])
        task = json.loads(header["__metadata__"]["trunkline"])["task"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return task if isinstance(task, str) and task else None
