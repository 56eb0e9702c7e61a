"""How far a file of rows is: a bar on a terminal, a line now and then in a log. Knows rich, no rows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

SILENCE_S = 10.0


@contextmanager
def count_rows(total: int, begun: int, stream: TextIO | None = None) -> Iterator[Callable[[int, int], None]]:
    """A function that is told how many rows are done, of them `begun` before, and how many answers failed."""
    out = stream or sys.stderr
    if not out.isatty():
        yield _lines(total, begun, out)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("rows  {task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    speed = Speed(total, begun)
    with Progress(*columns, console=Console(file=out)) as bars:
        bar = bars.add_task("", total=total, completed=begun, speed="", failed="")

        def update(done: int, failed: int) -> None:
            shown = f"{failed:,} failed" if failed else ""
            bars.update(bar, completed=done, speed=speed.shown(done), failed=shown)

        yield update


class Speed:
    """Rows a second since the beginning of this run."""

    def __init__(self, total: int, begun: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._begun, self._clock, self._started = total, begun, clock, clock()

    def rate(self, done: int) -> float:
        return (done - self._begun) / max(self._clock() - self._started, 1e-9)

    def shown(self, done: int) -> str:
        return f"{self.rate(done):,.0f} rows/s" if done > self._begun else ""

    def left(self, done: int) -> str:
        """How long the rest will take."""
        if done <= self._begun:
            return ""
        seconds = (self._total - done) / self.rate(done)
        return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:,.0f} min left"


def _lines(total: int, begun: int, out: TextIO) -> Callable[[int, int], None]:
    speed, told = Speed(total, begun), time.monotonic()

    def update(done: int, failed: int) -> None:
        nonlocal told
        if time.monotonic() - told < SILENCE_S or done == total:
            return
        told = time.monotonic()
        parts = [f"{done:,} of {total:,} rows", speed.shown(done), speed.left(done)]
        parts += [f"{failed:,} answers failed"] * bool(failed)
        out.write(f"{', '.join(part for part in parts if part)}\n")
        out.flush()

    return update
