"""What one kind of task knows in training: how its labels look in a file, how it is scored, its baseline.

One file per kind beside this one, found by discovery; a run meets tasks only through `Task`. Targets are what
`parse` returns: a class index, a tuple of class indices, a number, or a tuple of right texts.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from training.formats import Formatter, Scale
from training.metrics.calibration import Confidence
from training.metrics.paired import Ints, Score
from training.metrics.scores import Floats, Measures, Metric
from training.rows.canonical import Occurrence
from training.rows.examples import Split, Target
from training.rows.labels import Labels, one_label
from training.rows.tables import Table
from training.tasks.judged import SHOWN_SCORES, Judged

if TYPE_CHECKING:  # torch is for what trains: reading data, and telling of it, does without
    import torch

    from modeling import Answer, Backbone, HeadSpec
    from training.metrics.ranking import Embedded

Logits = npt.NDArray[np.float32]
DataKinds = Mapping[str, tuple[int, ...]]
T = TypeVar("T")
TaskT = TypeVar("TaskT", bound="Task")
DECODER_KIND = "text_to_text"
"""What adapter files call every task that a decoder answers (`modeling.readouts.DECODER_KIND`)."""


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
    may_lack_labels: ClassVar[bool] = False  # whether rows without a label mean something
    reads_words: ClassVar[bool] = False  # whether a head reads every word of a text
    usual_texts: ClassVar[tuple[str, ...]] = (
        "text",
        "sentence",
    )  # usual names of fields, the likeliest first
    usual_labels: ClassVar[tuple[str, ...]] = ("label", "labels")

    @classmethod
    def build(
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: "HeadSpec | None" = None
    ) -> Self:
        """Of these label names. `text` may name the class whose F1 is shown, `spec` is a trained one's."""
        del text, spec
        return cls(names, metric)

    @classmethod
    def measured_by(cls, names: Sequence[str], spec: "HeadSpec | None" = None) -> Measures:
        """The metrics there are for data with these label names, or for a trained task."""
        del names, spec
        return cls.measures

    @classmethod
    def in_text(cls) -> "type[Task] | None":
        """What its labels are to a decoder that writes them; None: it cannot be written."""
        return cls

    @classmethod
    def prepared(
        cls, tables: Mapping[str, Table], texts: Sequence[str], label: str, names: Sequence[str] | None
    ) -> tuple[dict[str, Table], list[str]]:
        """The tables with what only several fields of a row tell together, and what is told of it.

        `texts` and `label` are the fields, `names` what whole numbers stand for. Raises DataError.
        """
        del texts, label, names
        return dict(tables), []

    @classmethod
    def names_of(cls, spec: "HeadSpec") -> tuple[str, ...]:
        """What the data calls the classes of a trained one; nothing where they are numbers or texts."""
        return spec.labels if cls.least_names else ()

    @classmethod
    def read_labels(
        cls, found: Sequence[Occurrence], names: Sequence[str] | None, field: str, *, places: bool = True
    ) -> tuple[Labels, list[str]]:
        """How the values `found` in the label `field` are read, by the law of labels, and what is told of it.

        `names` were given (or are a trained task's); with `places` a number may be a place in them.
        Raises DataError for what the law refuses.
        """
        del field
        return one_label(found, names, places=places)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What a class index of a target means; nothing where targets are numbers or texts."""
        return self.labels

    @property
    def learns_one(self) -> bool:
        """Whether there is something to learn where all labels are the same."""
        return False

    def parse(self, value: Any, labels: Labels) -> Target:
        """One value of the label field. Raises TargetError."""
        return labels.index(value)

    def strata(self, targets: Sequence[Target], fraction: float = 0.1) -> list[tuple[int, ...]]:
        """What is shared out evenly when a `fraction` of rows is drawn: the labels of each row."""
        del fraction
        return [(target,) if isinstance(target, int) else () for target in targets]

    def stack(self, targets: Sequence[Target]) -> "torch.Tensor":
        """Targets [N, ...] as the loss wants them."""
        import torch

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

    def sized(self, backbone: "Backbone", splits: Sequence[Split]) -> "Task":
        """The same task with what only a tokenizer can tell. Raises ConfigError."""
        del backbone, splits
        return self

    def poolings(self, backbone: "Backbone") -> tuple[str, ...]:
        """What its head may read on this backbone: the usual one first; of pairs also both texts apart."""
        from modeling.readouts.apart import APART

        return (*backbone.poolings, APART)

    def aligned(self, backbone: "Backbone", split: Split) -> Split:
        """The same rows with targets in the words of this backbone's tokenizer."""
        del backbone
        return split

    def doubts(self, split: Split) -> list[str]:
        """What a person should know of rows whose targets are aligned."""
        del split
        return []

    def calibrated(self, logits: Logits, targets: Sequence[Target]) -> "Task":
        """The same task with what is chosen on validation (the threshold). Logits [N, L] in data units."""
        del logits, targets
        return self

    def found(
        self,
        logits: Logits,
        texts: Sequence[str] | None,
        targets: Sequence[Target],
        embedded: "Embedded | None" = None,
    ) -> Logits:
        """What `scores` judges: the logits, or what written texts score, or what is found by embeddings."""
        del texts, targets, embedded
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

    def to_units(self, weight: "torch.Tensor", bias: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """Head [L, H], [L] as trained -> the head whose logits are in the data's units."""
        return weight, bias

    def in_units(self, logits: Logits) -> Logits:
        """Logits as trained -> in the data's units; what `to_units` does to the head."""
        return logits

    def spec(self, pooling: str) -> "HeadSpec":
        """The task as adapter files describe it."""
        from modeling import HeadSpec

        return HeadSpec(self.kind, self.labels, pooling)

    def answers(self, logits: Logits) -> list[Any]:
        """What a reader would be told per row: a label, a list of labels, or a number."""
        from modeling import kind_of

        spec = self.spec("none")
        choices = [self.class_names] * len(logits)
        found = kind_of(spec).decide(spec, logits.astype(np.float64), None, choices)
        return [answer.score if answer.label is None else answer.label for answer in found]

    def told(self, target: Target) -> Any:
        """A target as an answer would be."""
        return self.class_names[int(target)] if isinstance(target, int) else target

    def row_values(self, logits: Logits, targets: Sequence[Target]) -> Floats | None:
        """Values [N] of rows whose mean is the deciding metric; None where that is no mean over rows."""
        del logits, targets
        return None

    def scorer(self, logits: Logits, targets: Sequence[Target]) -> Score:
        """The deciding metric of any of these rows, some of them several times."""

        def score(rows: Ints) -> float:
            return self.scores(logits[rows], [targets[row] for row in rows.tolist()])[self.metric.name]

        return score

    def judged(self, spec: "HeadSpec", logits: Logits, targets: Sequence[Target]) -> Judged:
        """Rows as a page shows them. `spec` says how logits [N, L], in data units, become scores."""
        answers = self._decided(spec, logits)
        wanted = [self.told(target) for target in targets]
        told = [answer.score if answer.label is None else answer.label for answer in answers]
        sure = np.array([answer.score for answer in answers], dtype=np.float64)
        right = np.array([one == other for one, other in zip(told, wanted, strict=True)], dtype=bool)
        loss = self._losses(spec, logits, targets)
        scores = [answer.scores for answer in answers]
        return Judged(self.class_names, wanted, told, loss, right, sure, scores, Confidence(sure, right))

    def _decided(self, spec: "HeadSpec", logits: Logits) -> "list[Answer]":
        """What logits mean, nothing withheld; choices are called by their numbers."""
        from modeling import kind_of

        kind, bold = kind_of(spec), replace(spec, abstain=None)
        choices = [[str(place) for place in range(logits.shape[1])]] * len(logits)
        return kind.decide(bold, logits.astype(np.float64), SHOWN_SCORES, choices)

    def _losses(self, spec: "HeadSpec", logits: Logits, targets: Sequence[Target]) -> Floats:
        """The loss [N] of each row alone, by its kind."""
        import torch

        from modeling import kind_of
        from modeling.kinds.base import tempered

        kind = kind_of(spec)
        found = torch.from_numpy(tempered(spec, logits.astype(np.float64)))
        wanted = self.stack(targets)
        rows = [
            float(kind.loss(found[row : row + 1], wanted[row : row + 1], None)) for row in range(len(found))
        ]
        return np.array(rows, dtype=np.float64)

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
