"""How much of the machine others took while something was measured, and whether that disturbed it.

Known of Linux; elsewhere nobody is seen, and nothing is called disturbed.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.machine import Used, processors, used

DISTURBED_CORES = 0.15
"""Cores of others' work from which on a run is marked."""


@dataclass
class Others:
    """Cores that were busy with something else, on the average; filled when the context ends."""

    cores: float = field(default=0.0)

    @property
    def disturbed(self) -> bool:
        return self.cores > DISTURBED_CORES

    def told(self) -> dict[str, float | bool]:
        """For a result file."""
        return {"others_busy_cores": round(self.cores, 2), "disturbed": self.disturbed}


@contextmanager
def watched(*pids: int) -> Iterator[Others]:
    """What neither this process nor those of `pids`, nor their children, took of the machine within it."""
    found = Others()
    before = _used(pids)
    try:
        yield found
    finally:
        found.cores = _used(pids).others_since(before)


def _used(pids: tuple[int, ...]) -> Used:
    """All of it, and our own with that of the processes."""
    everybody = used(processors(), time.monotonic())
    return Used(everybody.at_s, everybody.all_s, everybody.own_s + sum(map(spent_s, with_children(pids))))


def with_children(pids: Iterable[int]) -> set[int]:
    """These processes and all that they started, and those what they started."""
    found, asked = set(pids), list(pids)
    while asked:
        for path in Path(f"/proc/{asked.pop()}/task").glob("*/children"):
            try:
                new = set(map(int, path.read_text().split())) - found
            except OSError:  # a thread that ended
                continue
            found |= new
            asked += new
    return found


def spent_s(pid: int) -> float:
    """Processor seconds that a process has used; 0 where it cannot be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    values = text.rpartition(")")[2].split()  # behind the name, which may hold anything
    return (int(values[11]) + int(values[12])) / 100
