"""What one kind of task knows in training: how its labels look in a file, how it is scored, its baseline.

One file per kind beside this one, found by discovery; a run meets tasks only through `Task`. Targets are what
`parse` returns: a class index, a tuple of class indices, a number, or a tuple of right texts.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from modeling import Backbone, HeadSpec, kind_of
from training.formats import Formatter, Scale
from training.metrics.scores import Measures, Metric
from training.rows.examples import Split, Target

Logits = npt.NDArray[np.float32]
DataKinds = Mapping[str, tuple[int, ...]]
T = TypeVar("T")
TaskT = TypeVar("TaskT", bound="Task")


class TargetError(ValueError):
    """A label in the file is not one of this task. `found` says what was there, `remedy` what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"found {found}; {remedy}")
        self.found = found
        self.remedy = remedy


@dataclass(frozen=True)
class Baseline:
    """What an answer without reading the text scores. Undefined metrics are left out."""

    name: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Task(ABC):
    """One kind of task with its labels; immutable.

    `labels` are the names of the head's outputs in their order, `metric` decides. `data_kinds` are the words
    of `dataset.json` for it, each with the numbers of text fields that a head can read.
    """

    labels: tuple[str, ...]
    metric: Metric

    kind: ClassVar[str]  # as adapter files call it
    data_kinds: ClassVar[DataKinds]
    measures: ClassVar[Measures]
    least_names: ClassVar[int] = 2  # that the data must have; 0: it has numbers or texts
    weighted: ClassVar[bool] = False  # whether class weights mean something
    writes: ClassVar[bool] = False  # whether its answers are texts
    lists_choices: ClassVar[bool] = False  # whether a head scores texts that each row brings

    @classmethod
    def build(
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: HeadSpec | None = None
    ) -> Self:
        """Of these label names. `text` may name the class whose F1 is shown, `spec` is a trained one's."""
        del text, spec
        return cls(names, metric)

    @classmethod
    def in_text(cls) -> "type[Task] | None":
        """What its labels are to a decoder that writes them; None: it cannot be written."""
        return cls

    @classmethod
    def names_in(cls, values: Iterable[Any], field: str) -> tuple[str, ...]:
        """Label names as they occur in the `field` of all rows, sorted; numbers by value."""
        del field
        parts = (part for value in values for part in cls.parts_of(value))
        found = {str(part).strip() for part in parts if part is not None and str(part).strip()}
        if all(name.isascii() and name.isdigit() for name in found):
            return tuple(str(number) for number in range(max(map(int, found), default=-1) + 1))
        return tuple(sorted(found))

    @classmethod
    def parts_of(cls, value: Any) -> list[Any]:
        """The labels in one value of the label field."""
        return value if isinstance(value, list) else [value]

    @property
    def class_names(self) -> tuple[str, ...]:
        """What a class index of a target means; nothing where targets are numbers or texts."""
        return self.labels

    @abstractmethod
    def parse(self, value: Any) -> Target:
        """One label as it stands in the file. Raises TargetError."""

    def stratum(self, target: Target) -> Hashable:
        """Rows with equal strata are shared out evenly when a split is drawn."""
        return target

    def stack(self, targets: Sequence[Target]) -> torch.Tensor:
        """Targets [N, ...] as the loss wants them."""
        return torch.tensor(list(targets), dtype=torch.int64)

    def strings(self, targets: Sequence[Target]) -> list[str]:
        """What a decoder should write for each row; nothing where a head answers."""
        del targets
        return []

    def learnt(self, target: Target) -> list[Target]:
        """The targets of the train examples that a row becomes."""
        return [target]

    def as_text(self, formatter: Formatter) -> "Task":
        """The same task for a decoder. Raises DataError for a format that does not fit."""
        raise TypeError(f"{self.kind} has no text-to-text form: this is a bug")

    def string_form(self) -> tuple[tuple[str, ...], Scale | None]:
        """What the data calls the classes that a decoder writes, and the scale of numbers."""
        return (), None

    def restored(self, labels: tuple[str, ...], scale: Scale | None) -> "Task":
        """The same task with the strings of a trained one."""
        del labels, scale
        return self

    def fitted(self, targets: Sequence[Target]) -> "Task":
        """The same task with what it has to learn from the train targets (mean, spread, range)."""
        del targets
        return self

    def sized(self, backbone: Backbone, splits: Sequence[Split]) -> "Task":
        """The same task with what only a tokenizer can tell. Raises ConfigError."""
        del backbone, splits
        return self

    def calibrated(self, logits: Logits, targets: Sequence[Target]) -> "Task":
        """The same task with what is chosen on validation (the threshold). Logits [N, L] in data units."""
        del logits, targets
        return self

    def found(self, logits: Logits, texts: Sequence[str] | None, targets: Sequence[Target]) -> Logits:
        """What `scores` judges: the logits, or what written texts score."""
        del texts, targets
        return logits

    @abstractmethod
    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """All metrics of what was `found`: logits [N, L] in the data's units."""

    @abstractmethod
    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The score of the majority (or mean) of `train` on `targets`."""

    def balance(self, count: int, total: int) -> float:
        """The weight of a label with `count` of `total` rows, if all labels should count alike."""
        return total / len(self.labels) / count

    def to_units(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Head [L, H], [L] as trained -> the head whose logits are in the data's units."""
        return weight, bias

    def in_units(self, logits: Logits) -> Logits:
        """Logits as trained -> in the data's units; what `to_units` does to the head."""
        return logits

    def spec(self, pooling: str) -> HeadSpec:
        """The task as adapter files describe it."""
        return HeadSpec(self.kind, self.labels, pooling)

    def answers(self, logits: Logits) -> list[Any]:
        """What a reader would be told per row: a label, a list of labels, or a number."""
        spec = self.spec("none")
        choices = [self.class_names] * len(logits)
        found = kind_of(spec).decide(spec, logits.astype(np.float64), None, choices)
        return [answer.score if answer.label is None else answer.label for answer in found]

    def told(self, target: Target) -> Any:
        """A target as an answer would be."""
        return self.class_names[int(target)] if isinstance(target, int) else target

    def constant_warning(self, logits: Logits) -> str | None:
        """A sentence when every row gets the same answer."""
        chosen = set(logits.argmax(axis=1).tolist())
        if len(logits) < 2 or len(chosen) > 1:
            return None
        name = (self.class_names or self.labels)[chosen.pop()]
        return f"every validation row is answered {name!r}: the adapter ignores the text"


TASKS: dict[str, type[Task]] = {}
"""By the words of `dataset.json`."""


def register(cls: type[TaskT]) -> type[TaskT]:
    """Enter a kind under its words."""
    TASKS.update(dict.fromkeys(cls.data_kinds, cls))
    return cls


def commonest(values: Sequence[T]) -> T:
    """What most rows have."""
    return Counter(values).most_common(1)[0][0]
