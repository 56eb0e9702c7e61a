"""What this process may use of the machine: cores, time that its control groups give, what others take.

It reads `/proc` and `/sys` of Linux and decides nothing; elsewhere it knows the number of cores alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
_LEAST_S = 0.5  # the kernel counts in hundredths
_BUSY = (0, 1, 2, 5, 6)  # of a line of /proc/stat: user, nice, system, both kinds of interrupts


@dataclass(frozen=True, slots=True)
class Machine:
    """`cores` that this process may run on, each counted once however many threads it has; `quota` in cores
    of what its control groups let it use, None without a limit; `busy`, cores that others used of late.
    """

    cores: int
    quota: float | None = None
    busy: float = 0.0


@dataclass(frozen=True, slots=True)
class Used:
    """Seconds of processor time since the machine started: of everybody on some processors, and our own."""

    at_s: float
    all_s: float
    own_s: float

    def others_since(self, earlier: Used) -> float:
        """How many cores others kept busy in between; 0 of a moment too short to tell."""
        seconds = self.at_s - earlier.at_s
        if seconds < _LEAST_S:
            return 0.0
        spent = (self.all_s - earlier.all_s) - (self.own_s - earlier.own_s)
        return max(0.0, spent / seconds)


def processors() -> frozenset[int]:
    """The numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cores(numbers: Collection[int], root: Path = _ROOT) -> int:
    """How many cores these processors are: two threads of one core are one."""
    folder = root / "sys/devices/system/cpu"
    siblings = (_text(folder / f"cpu{number}/topology/thread_siblings_list") for number in numbers)
    return len({own or str(number) for number, own in zip(numbers, siblings, strict=True)})


def quota(root: Path = _ROOT) -> float | None:
    """The least that a control group of this process, or one above it, may use; in cores. Both versions."""
    found = [*_quotas_of_second(root), *_quotas_of_first(root)]
    return min(found, default=None)


def used(numbers: Collection[int], now_s: float, root: Path = _ROOT) -> Used:
    """What these processors have spent until now, and this process and its children."""
    ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    lines = (line.split() for line in (_text(root / "proc/stat") or "").splitlines())
    named = {f"cpu{number}" for number in numbers}
    spent = sum(int(line[1 + i]) for line in lines if line and line[0] in named for i in _BUSY)
    own = os.times()
    return Used(now_s, spent / ticks, own.user + own.system + own.children_user + own.children_system)


def _quotas_of_second(root: Path) -> Iterator[float]:
    for folder in _folders(root, "", root / "sys/fs/cgroup"):
        most, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
        if most.isdigit() and period.isdigit():
            yield int(most) / int(period)


def _quotas_of_first(root: Path) -> Iterator[float]:
    for name in ("cpu", "cpu,cpuacct"):
        for folder in _folders(root, "cpu", root / "sys/fs/cgroup" / name):
            most, period = (_text(folder / f"cpu.cfs_{what}_us") or "" for what in ("quota", "period"))
            if most.isdigit() and period.isdigit():  # no limit is -1
                yield int(most) / int(period)


def _folders(root: Path, controller: str, mounted: Path) -> Iterator[Path]:
    """The group of this process and those above it, as far as they can be seen from here."""
    lines = [line.split(":", 2) for line in (_text(root / "proc/self/cgroup") or "").splitlines()]
    own = next((line[2] for line in lines if len(line) == 3 and controller in line[1].split(",")), "/")
    place = mounted / own.lstrip("/")
    yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(mounted))


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
