"""Labels as strings that a decoder would write: classes, or numbers in even steps (STS-B).

A row is answered with the most probable of its label strings, so every answer is a label; what free
generation would write is measured by `trunkline evaluate --generate` alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from training.formats import Scale, scale_for
from training.metrics.scores import Floats
from training.rows.examples import Target, WordSpans
from training.rows.labels import Labels
from training.tasks.base import DECODER_KIND, Baseline, Logits, Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AsStrings(Task):
    """`inner` is the data's own task (one label, or a number), `labels` are the strings that stand for it.

    Logits [N, L] are the log probabilities of the strings. `scale` turns numbers into classes; a regression
    gets one with `fitted` when its format does not fix it.
    """

    inner: Task
    scale: Scale | None = None

    kind = DECODER_KIND

    @property
    def class_names(self) -> tuple[str, ...]:
        """The strings, where a target is one of them."""
        return self.labels if self.inner.class_names else ()

    def parse(self, value: object, labels: Labels) -> Target:
        return self.inner.parse(value, labels)

    def strata(self, targets: Sequence[Target], fraction: float = 0.1) -> list[tuple[int, ...]]:
        return self.inner.strata(targets, fraction)

    def stack(self, targets: Sequence[Target]) -> "torch.Tensor":
        """Int64 [N]: which string is right; of a number, the nearest one."""
        import torch

        return torch.tensor([self._string(target) for target in targets], dtype=torch.int64)

    def strings(self, targets: Sequence[Target]) -> list[str]:
        """The string that is right in each row."""
        return [self.labels[self._string(target)] for target in targets]

    def _string(self, target: Target) -> int:
        """The number of the string that stands for a target."""
        if isinstance(target, tuple | WordSpans):
            raise TypeError(f"a text-to-text target is one label, got {target!r}: this is a bug")
        return int(target) if self.scale is None else self.scale.index(float(target))

    def string_form(self) -> tuple[tuple[str, ...], Scale | None]:
        return self.inner.class_names, self.scale

    def restored(self, labels: tuple[str, ...], scale: Scale | None) -> Task:
        return replace(self, labels=labels, scale=scale)

    def fitted(self, targets: Sequence[Target]) -> Task:
        """Numbers: classes over the range of the train targets, unless the format fixed them."""
        inner = self.inner.fitted(targets)
        if self.inner.class_names:
            return replace(self, inner=inner)
        spec = inner.spec("none")
        scale = self.scale or scale_for(spec.low or 0.0, 1.0 if spec.high is None else spec.high)
        return replace(self, inner=inner, scale=scale, labels=scale.strings)

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """The metrics of the data's own task. An undefined correlation is 0, as in the paper's code."""
        if self.inner.class_names:
            return self.inner.scores(logits, targets)
        values = self.inner.scores(self._numbers(logits), targets)
        if not np.isfinite(logits).all():
            return dict.fromkeys(values, math.nan)
        return {name: value if math.isfinite(value) else 0.0 for name, value in values.items()}

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        return self.inner.baseline(train, targets)

    def _numbers(self, logits: Logits) -> Logits:
        """[N, L] -> [N, 1]: the number that the best string means."""
        assert self.scale is not None, "a regression is fitted before it is scored: this is a bug"
        values: Floats = np.asarray(self.scale.values)[logits.argmax(axis=1)]
        return values[:, None].astype(np.float32)
