"""Two ways to watch a training run: live bars on a terminal, lines in a log. Knows rich, not training."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

STAGES = {
    "data": "reading data",
    "features": "features of the frozen backbone",
    "head": "stage 1: head",
    "adapter": "stage 2: adapter",
    "lab": "methods, rates and layers",
    "prune": "scores with ever fewer layers",
    "publish": "file, probes, reload and compare",
}
SILENCE_S = 5.0
SMOOTHING = 0.95  # share of the running loss that a new step keeps


@contextmanager
def watch(quiet: bool, stream: TextIO | None = None) -> Iterator[LiveBars | Lines]:
    """Bars when stderr is a terminal, lines when not, notes alone when quiet."""
    out = stream or sys.stderr
    if not out.isatty() or quiet:
        yield Lines(out, quiet=quiet)
        return
    live = LiveBars()
    with live.bars:
        yield live


class RunningLoss:
    """The smoothed loss of one stage."""

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, loss: float | None) -> None:
        """Take one step's loss; None changes nothing."""
        if loss is not None:
            self.value = loss if self.value is None else SMOOTHING * self.value + (1 - SMOOTHING) * loss

    def __str__(self) -> str:
        return "" if self.value is None else f"loss {self.value:.4f}"


class LiveBars:
    """One bar for each stage, with steps, time, smoothed loss, and the latest and best validation metric."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description:<32}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[loss]} {task.fields[metric]}"),
        )
        self.bars: Bars = Progress(*columns, console=Console(stderr=True))
        self._task: TaskID | None = None
        self._loss = RunningLoss()

    def begin(self, stage: str, total_steps: int) -> None:
        """A new bar; it only pulses when the steps cannot be counted."""
        self._loss = RunningLoss()
        total = total_steps or None
        self._task = self.bars.add_task(STAGES.get(stage, stage), total=total, loss="", metric="")

    def step(self, loss: float | None) -> None:
        if self._task is not None:
            self._loss.add(loss)
            self.bars.update(self._task, advance=1, loss=str(self._loss))

    def evaluated(self, epoch: int, metric: str, value: float, best: float) -> None:
        if self._task is not None:
            self.bars.update(self._task, metric=f"epoch {epoch}: {metric} {value:.4f} (best {best:.4f})")

    def end(self, stage: str) -> None:
        """The bar is full, also when the stage stopped early."""
        if self._task is not None:
            done = max(self.bars.tasks[-1].completed, 1)
            self.bars.update(self._task, total=done, completed=done)
            self._task = None

    def tell(self, message: str) -> None:
        """A line above the bars."""
        self.note(message)

    def note(self, message: str) -> None:
        """A line above the bars."""
        self.bars.console.print(message, markup=False, highlight=False)


class Lines:
    """A line for every stage, and for evaluations that are the best so far or break a long silence."""

    def __init__(self, out: TextIO, *, quiet: bool = False) -> None:
        self._out, self._quiet, self._loss = out, quiet, RunningLoss()
        self._best: float | None = None
        self._started = self._told = time.monotonic()

    def begin(self, stage: str, total_steps: int) -> None:
        self._loss, self._best, self._started = RunningLoss(), None, time.monotonic()
        steps = f" ({total_steps} steps)" if total_steps else ""
        self._print(f"{STAGES.get(stage, stage)}{steps}")

    def step(self, loss: float | None) -> None:
        """Remembered until the next evaluation."""
        self._loss.add(loss)

    def evaluated(self, epoch: int, metric: str, value: float, best: float) -> None:
        """One line, when there is news."""
        if best != self._best or time.monotonic() - self._told >= SILENCE_S:
            self._best = best
            parts = [f"  epoch {epoch}", str(self._loss), f"{metric} {value:.4f} (best {best:.4f})"]
            self._print("  ".join(part for part in parts if part))

    def end(self, stage: str) -> None:
        """How long it took."""
        self._print(f"  done in {time.monotonic() - self._started:.1f} s")

    def tell(self, message: str) -> None:
        """A line, unless quiet."""
        self._print(f"  {message}")

    def note(self, message: str) -> None:
        """Printed even when quiet: it may be a warning."""
        self._out.write(f"{message}\n")
        self._out.flush()

    def _print(self, line: str) -> None:
        if not self._quiet:
            self._told = time.monotonic()
            self.note(line)
