"""How many threads a forward pass has, and how they wait for each other.

Threads that spin at a barrier (OpenMP's way unless it is told otherwise) keep the event loop and every
neighbour off the processor, and one that lost its core holds up all the others: beside one busy process a
service on two cores kept a seventh of its throughput. So they sleep while they wait; there are no more of
them than the machine gives; and a pass that is too small to be shared runs on one.

OpenMP reads how to wait when its library is loaded, which importing torch does: `settle` comes before.
What the person set (`OMP_…`, `GOMP_…`, `KMP_…`, `device_threads`) counts before what is chosen here.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from .machine import Machine, Used, cores, processors, quota, used

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""The variables by which a person says how threads wait."""
NUMBER = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT")

_LEAST_SHARE = 0.75  # of the cores: that others are busy now says little of the hours to come
# Tokens of passes that are tried on one thread; no more, because a busy minute at the start makes one thread
# look good for larger ones, too.
_SIZES = (8, 16, 32, 64)
_TRIALS = 5
_SLACK = 1.05  # on one thread a pass may take so much longer: it leaves the other cores to others


@dataclass(frozen=True, slots=True)
class Chosen:
    """What forward passes run on: `number` threads and why, how they `wait`; up to `alone_tokens` on one."""

    number: int
    why: str
    wait: str = ""
    alone_tokens: int = 0
    given: bool = False  # the person said so, for passes of every size

    def for_pass(self, num_tokens: int) -> int:
        """How many threads a pass over so many tokens has."""
        return 1 if num_tokens <= self.alone_tokens else self.number


def settle_process() -> None:
    """`settle` for this process: what a program that serves does first."""
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        mapped = ""
    settle(os.environ, mapped)


def settle(environ: MutableMapping[str, str], mapped: str) -> None:
    """Have OpenMP's threads sleep while they wait, before torch is imported; unless the person said how.

    `mapped` are the libraries that this process has loaded already (`/proc/self/maps`): where OpenMP is
    among them, nothing can be said any more.
    """
    if not any(map(environ.get, WAITING)) and "libgomp" not in mapped and "libiomp" not in mapped:
        environ["OMP_WAIT_POLICY"] = "passive"


def waiting(environ: Mapping[str, str]) -> str:
    """How threads wait for each other, as the environment tells it."""
    return ", ".join(f"{name}={environ[name]}" for name in WAITING if environ.get(name)) or "by default"


def choose(machine: Machine, environ: Mapping[str, str], asked: int | None) -> Chosen:
    """The number of threads on this machine; `asked` is the setting `device_threads`."""
    wait = waiting(environ)
    if asked is not None:
        return Chosen(asked, f"device_threads is {asked}", wait, given=True)
    for name in NUMBER:
        first = environ.get(name, "").partition(",")[0].strip()
        if first.isdigit() and int(first) > 0:
            return Chosen(int(first), f"{name} is {environ[name]}", wait, given=True)
    told, most = [f"this process may use {machine.cores} cores"], machine.cores
    if machine.quota is not None and machine.quota < most:
        most = max(1, math.floor(machine.quota))  # the event loop has the rest
        told.append(f"its control group gives it the time of {machine.quota:g}")
    number = min(most, max(machine.cores - round(machine.busy), math.ceil(_LEAST_SHARE * most)))
    if number < most:
        told.append(f"others keep {machine.busy:.1f} busy")
    return Chosen(number, ", ".join(told), wait)


def look(since: Used | None = None) -> Machine:
    """This machine, and what others took of it since an earlier moment."""
    numbers = processors()
    busy = 0.0 if since is None else used(numbers, time.monotonic()).others_since(since)
    return Machine(cores(numbers), quota(), busy)


def now() -> Used:
    """For a later `look`."""
    return used(processors(), time.monotonic())


class DevicePool:
    """Sets how many threads the device thread's next pass has: its pool is the only one that computes."""

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen
        self._number = 0  # set last

    def __call__(self, num_tokens: int | None) -> None:
        """On the device thread, before a pass over so many tokens; None: before anything else."""
        self.set(self.chosen.number if num_tokens is None else self.chosen.for_pass(num_tokens))

    def set(self, number: int) -> None:
        """On the device thread: this many from now on."""
        if number != self._number:
            _set(number)
            self._number = number


def have_one() -> None:
    """On every other thread: what torch does there starts no pool of its own."""
    _set(1)


def _set(number: int) -> None:
    import torch

    torch.get_num_threads()  # torch gives a thread that asks for the first time what was set last elsewhere
    torch.set_num_threads(number)


def alone_up_to(seconds: Callable[[int, int], float], number: int, sizes: Iterable[int] = _SIZES) -> int:
    """Tokens of the largest pass that one thread runs as fast as `number` of them; 0 if it never does.

    `seconds(threads, tokens)` runs a pass.
    """
    largest = 0
    for tokens in sizes if number > 1 else ():
        spent = [(seconds(1, tokens), seconds(number, tokens)) for _ in range(_TRIALS)]
        alone, shared = (statistics.median(each) for each in zip(*spent, strict=True))
        if alone > _SLACK * shared:
            break
        largest = tokens
    return largest
