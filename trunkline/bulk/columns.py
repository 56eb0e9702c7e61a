"""Answers as columns of a table: which there are, what they are called and what stands in them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from trunkline.answers import Prediction
from trunkline.bulk.asking import Asked, Question
from trunkline.bulk.fields import Reading
from trunkline.calls import Options
from trunkline.errors import Invalid

PREFIX = "predicted_"
_ENTITIES = pa.list_(
    pa.struct(
        [
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("label", pa.string()),
            ("text", pa.string()),
            ("score", pa.float64()),
        ]
    )
)
_SCORES = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))


@dataclass(frozen=True)
class Column:
    """One fact of an answer."""

    type: Any
    value: Callable[[Prediction], Any]


def _error(one: Prediction) -> str | None:
    return None if one.error is None else f"{one.error.code}: {one.error.message}"


def _label(one: Prediction) -> Any:
    return one.label if one.error is None else None


FACTS: Mapping[str, Column] = {
    "label": Column(pa.string(), _label),
    "unknown": Column(pa.bool_(), lambda one: None if one.error else one.unknown),
    "score": Column(pa.float64(), lambda one: one.score),
    "scores": Column(_SCORES, lambda one: None if one.error else one.scores),
    "entities": Column(_ENTITIES, lambda one: one.entities and [asdict(found) for found in one.entities]),
    "text": Column(pa.string(), lambda one: one.text),
    "index": Column(pa.int64(), lambda one: one.index),
    "embedding": Column(pa.list_(pa.float32()), lambda one: one.embedding),
    "logits": Column(pa.list_(pa.float64()), lambda one: one.logits),
    "truncated": Column(pa.bool_(), lambda one: None if one.error else one.truncated),
    "version": Column(pa.int64(), lambda one: one.version),
    "error": Column(pa.string(), _error),
}
_LABELS = Column(pa.list_(pa.string()), _label)
_OWN: Mapping[str, Mapping[str, Column]] = {
    "multi_label": {"label": _LABELS},
    "token_labels": {
        "label": _LABELS,
        "logits": Column(pa.list_(pa.list_(pa.float64())), lambda one: one.logits),
    },
}
"""What a kind has in another form."""


_UNLABELLED = ("regression", "similarity")


def facts_of(asked: Asked, reading: Reading | None, options: Options) -> dict[str, Column]:
    """What an answer of this task has: a regression no label, a text that was written no score.

    A similarity has the score of a pair, or the embedding of a text; both where rows (read as inputs, without
    a `reading`) may be either.
    """
    kind, version = asked.version.kind, asked.version
    embeds = kind == "similarity" and (reading is None or len(reading.form.texts) == 1)
    scores = not embeds or reading is None
    writes = kind == "text_to_text" and (bool(options.get("generate")) or not version.labels)
    wanted = {
        "label": kind not in _UNLABELLED and not (writes and not version.labels),
        "unknown": version.abstain is not None and not writes,
        "score": scores and not writes,
        "scores": bool(options.get("top_k")) and not writes and kind not in _UNLABELLED,
        "entities": kind == "token_labels",
        "embedding": embeds,
        "text": writes,
        "index": kind == "multiple_choice",
        "logits": bool(options.get("raw")) and scores and not writes,
        "truncated": bool(options.get("truncate")),
        "version": True,
        "error": True,
    }
    found = {name: column for name, column in FACTS.items() if wanted[name]}
    own = _OWN.get(kind, {})
    return {name: own.get(name, column) for name, column in found.items()}


def answer_columns(
    question: Question, prefix: str | None, taken: Mapping[str, Any]
) -> list[dict[str, Column]]:
    """The columns of each task by name: `predicted_label` of one, `sentiment@2.label` of several.

    Raises:
        Invalid: a name that a column of the input has already.
    """
    many = len(question.asked) > 1
    found = []
    for one, reading in zip(question.asked, question.readings, strict=True):
        start = f"{prefix or ''}{one.reference}." if many else (PREFIX if prefix is None else prefix)
        found.append(
            {f"{start}{name}": column for name, column in facts_of(one, reading, question.options).items()}
        )
    both = [name for columns in found for name in columns if name in taken]
    if both:
        raise Invalid(
            f"the file has a column {both[0]!r} already, which is what a column of answers would be called; "
            "name these otherwise with --prefix"
        )
    return found


def values_of(columns: Mapping[str, Column], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
    """The values of one task's columns."""
    return {name: [column.value(one) for one in predictions] for name, column in columns.items()}
