"""The check of a file by a process that was forked ahead: with our code in memory, and nothing of a run.

It knows as little of what the writer believes as a process of its own (`proof.fresh`) does, and does not
spend seconds on imports again. It loads the backbone anew for every file.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from proof.check import CheckReport, report_or_reason
from proof.errors import CheckFailed
from proof.fresh import TIMEOUT_S, check_in_fresh_process

Check = Callable[[Path, str], CheckReport]


@contextmanager
def checker() -> Iterator[Check]:
    """What checks files until the end of the context: `check_in_fresh_process` where forking is not safe.

    To be entered before anything is read or trained.
    """
    if not _can_fork():
        yield check_in_fresh_process
        return
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(ours, theirs), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # libraries have threads that sleep; Python warns
        with _held_back(signal.SIGTERM):  # until the other one has its own way with it
            process.start()
    theirs.close()
    try:
        yield lambda path, backbone: _asked(ours, path, backbone)
    finally:
        ours.close()
        process.terminate()
        process.join()


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _can_fork() -> bool:
    """Only on Linux, and while no other thread of Python could hold a lock."""
    return sys.platform.startswith("linux") and threading.active_count() == 1


def _asked(connection: Connection, path: Path, backbone: str) -> CheckReport:
    """Raises CheckFailed: the process refuses the file, or does not come to an end."""
    try:
        connection.send((path.resolve(), backbone))
        if not connection.poll(TIMEOUT_S):
            raise CheckFailed(f"the check of {path.name} took over {TIMEOUT_S} s; nothing was announced")
        found = connection.recv()
    except (EOFError, ConnectionError):  # it was killed, for its memory or by hand
        return check_in_fresh_process(path, backbone)
    if isinstance(found, CheckReport):
        return found
    raise CheckFailed(f"{path.name} was refused by another process: {found[:2000]}")


def _answer(ours: Connection, theirs: Connection) -> None:
    """The other process: a report, or what is wrong in words, for every file that it is asked about.

    It ends with the one that asks, however that ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: whoever asks then ends, and so does this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    import torch

    torch.set_num_threads(1)  # a pool of threads does not come through a fork
    ours.close()
    while True:
        try:
            path, backbone = theirs.recv()
        except EOFError:
            return
        theirs.send(report_or_reason(path, backbone))
