"""What the server answers, as frozen dataclasses, and how they are read from its JSON. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from trunkline.errors import ItemFailed
from trunkline.inputs import Item

Json = Mapping[str, Any]


@dataclass(frozen=True)
class ItemError:
    """Why one input has no answer. `index` is its place in the request.

    `details` are numbers behind the message, such as "tokens" and "limit" of an input that is too long.
    """

    code: str
    message: str
    index: int
    details: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Entity:
    """Some words of a text that have a label: `text` is the input's text[start:end].

    `score` is the probability that exactly this entity stands there.
    """

    start: int
    end: int
    label: str
    text: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """One task's answer for one input.

    `label` is a string (single label, text to text), the chosen text, a list of strings (multi-label; of
    token labels those of its entities, each once) or None (regression, similarity, failed item, and
    `unknown`: the task withholds a label whose score is under its threshold; the scores are there).
    `scores` maps names to probabilities, or to the value for a regression, best first. `index` is the
    place of the chosen one among the choices. `text` is what was written with `generate=True`; `label` is
    then the same if it is one of the labels, and there is no score. A similarity answers a pair with its
    score, and a text alone with its `embedding`, of length one. `tokens` is the input's length before
    truncation. `logits` is filled when asked for with `raw=True`. `entities` are what was found in a
    text, in its order; None for other kinds; with `raw=True` there is one list of logits for each word,
    which `words` has as (start, end).
    """

    task: str
    version: int | None = None
    label: str | list[str] | None = None
    score: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    tokens: int | None = None
    truncated: bool = False
    logits: list[float] | list[list[float]] | None = None
    error: ItemError | None = None
    index: int | None = None
    text: str | None = None
    embedding: list[float] | None = None
    entities: list[Entity] | None = None
    words: list[tuple[int, int]] | None = None
    unknown: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    def raise_for_error(self) -> Prediction:
        """Itself when there is an answer; otherwise raises ItemFailed."""
        if self.error is None:
            return self
        raise ItemFailed(f"inputs[{self.error.index}]: {self.error.message}", code=self.error.code)


@dataclass(frozen=True)
class Version:
    """One version of a task on the server; `state` is "resident" or "failed" (then `reason` says why).

    `example` is the form of an input, with the names of its fields in braces; None for a version that
    failed. `fields` name what an input has; `reads` the fields of rows that inputs were made of in training.
    `abstain` is there where labels are withheld under a threshold, with what was measured.
    """

    version: int
    digest: str
    size_bytes: int
    created: str
    state: str = ""
    method: str = ""
    kind: str = ""
    labels: tuple[str, ...] = ()
    reason: str = ""
    example: Item | None = field(default=None, hash=False)  # an object of JSON has no hash
    fields: tuple[str, ...] = ()
    reads: dict[str, Any] | None = field(default=None, hash=False)
    abstain: dict[str, float] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Task:
    """A task with its versions and aliases. `revision` is what `promote(..., expect_revision=)` compares."""

    task: str
    revision: int
    aliases: dict[str, int]
    versions: tuple[Version, ...]

    @property
    def production(self) -> int | None:
        """The version that answers for the bare name."""
        return self.aliases.get("production")


@dataclass(frozen=True)
class Pushed:
    """What became of an upload. `created` is False when the same bytes were already a version."""

    task: str
    version: int
    digest: str
    size_bytes: int
    created: bool
    method: str = ""
    kind: str = ""
    labels: tuple[str, ...] = ()
    aliases: dict[str, int] = field(default_factory=dict)
    probes: dict[str, float] = field(default_factory=dict)


RecordT = TypeVar("RecordT", bound=Version | Task | Pushed)


def read_result(task: str, num_inputs: int, result: Json) -> list[Prediction]:
    """All predictions of one task; a failed task (unknown among several) gives its error for every input.

    Raises KeyError or ValueError when the answer is not of the documented form.
    """
    if "error" in result:
        error = result["error"]
        return [_failed(task, index, error) for index in range(num_inputs)]
    items = result["predictions"]
    if len(items) != num_inputs:
        raise ValueError(f"{len(items)} predictions for {num_inputs} inputs")
    version = result.get("version")
    return [_prediction(result.get("task", task), version, index, item) for index, item in enumerate(items)]


def _prediction(task: str, version: int | None, index: int, item: Json) -> Prediction:
    if "error" in item:
        return _failed(task, index, item["error"], version)
    return Prediction(
        task=task,
        version=version,
        label=item["label"],
        score=item["score"],
        scores=dict(item["scores"]),
        tokens=item["tokens"],
        truncated=item["truncated"],
        logits=item.get("logits"),
        index=item.get("index"),
        text=item.get("text"),
        embedding=item.get("embedding"),
        entities=_entities(item),
        words=None if item.get("words") is None else [(start, end) for start, end in item["words"]],
        unknown=bool(item.get("unknown")),
    )


def _entities(item: Json) -> list[Entity] | None:
    found = item.get("entities")
    names = [one.name for one in fields(Entity)]
    return None if found is None else [Entity(**{name: one[name] for name in names}) for one in found]


def _failed(task: str, index: int, error: Json, version: int | None = None) -> Prediction:
    found = ItemError(
        code=error.get("code", "error"),
        message=error.get("message", "the server gave no reason"),
        index=error.get("index", index),
        details={name: value for name, value in error.items() if name not in ("code", "message", "index")},
    )
    return Prediction(task=task, version=version, error=found)


def read(kind: type[RecordT], body: Json) -> RecordT:
    """A record from what has the names of its fields; what has a default may be missing, or null."""
    values: dict[str, Any] = {}
    for one in fields(kind):
        has_default = one.default is not MISSING or one.default_factory is not MISSING
        if not has_default or body.get(one.name) is not None:
            value = body[one.name]
            values[one.name] = _AS[one.name](value) if one.name in _AS else value
    return kind(**values)


_AS: Mapping[str, Callable[[Any], object]] = {
    "labels": tuple,
    "fields": tuple,
    "aliases": dict,
    "probes": dict,
    "versions": lambda records: tuple(read(Version, record) for record in records),
}
