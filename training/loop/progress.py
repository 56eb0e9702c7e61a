"""What a training run tells whoever watches it; knows no terminal and no library for one."""

from typing import Protocol


class Progress(Protocol):
    """The seam between the recipe and a progress bar. Every method returns at once and must not raise."""

    def begin(self, stage: str, total_steps: int) -> None:
        """A stage starts: `data`, `features`, `head`, `adapter`, `publish`. 0 steps means not countable."""

    def step(self, loss: float | None) -> None:
        """One step of the current stage is done; `loss` is None where a stage has none."""

    def evaluated(self, epoch: int, metric: str, value: float, best: float) -> None:
        """The validation metric after an epoch, and the best one so far."""

    def end(self, stage: str) -> None:
        """The stage is over, also when it stopped early."""

    def tell(self, message: str) -> None:
        """Something about the run that needs nobody's attention."""

    def note(self, message: str) -> None:
        """Something a person should read: a warning about the data, a resumed run, where the file went."""


class NullProgress:
    """Says nothing."""

    def begin(self, stage: str, total_steps: int) -> None: ...
    def step(self, loss: float | None) -> None: ...
    def evaluated(self, epoch: int, metric: str, value: float, best: float) -> None: ...
    def end(self, stage: str) -> None: ...
    def tell(self, message: str) -> None: ...
    def note(self, message: str) -> None: ...
