"""Finished jobs as answers, a whole column at once. Knows the shape of an answer in JSON; kinds decide."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.request import Column, ItemError
from ..metrics import Metrics

if TYPE_CHECKING:
    from modeling import Answer

Prediction = dict[str, Any]


def predictions_of(column: Column, *, top_k: int | None, raw: bool) -> list[Prediction]:
    """One answer or error per item, in the order of the items."""
    answers = _generated(column) if column.generates else _scored(column, top_k)
    for answer, num_tokens, truncated in zip(answers, column.num_tokens, column.truncated, strict=True):
        answer["tokens"], answer["truncated"] = num_tokens, truncated
    if raw:
        for index, (answer, row) in enumerate(zip(answers, column.logits.tolist(), strict=True)):
            answer["logits"] = row[: len(column.choices[index])] if index in column.choices else row
            if index in column.embeddings:  # there is no second text, and so no logit
                answer["logits"] = []
    for index, error in column.errors.items():
        answers[index] = {"error": error.as_json()}
    return answers


def _scored(column: Column, top_k: int | None) -> list[Prediction]:
    _withhold_non_finite(column)
    card = column.card
    choices = [column.choices.get(i, ()) for i in range(len(column.num_tokens))] if card.kind.choices else ()
    with np.errstate(all="ignore"):  # rows with an error hold anything; they are replaced later
        answers = card.kind.decide(card.spec, column.logits.astype(np.float64), top_k, choices)
    if card.readout.embeds:
        return [_compared(column, index, answer) for index, answer in enumerate(answers)]
    if not card.kind.choices:
        return [{"label": label, "score": score, "scores": scores} for label, score, scores, _ in answers]
    return [
        {"label": label, "index": index, "score": score, "scores": scores}
        for label, score, scores, index in answers
    ]


def _compared(column: Column, index: int, answer: Answer) -> Prediction:
    """How alike two texts are, or the embedding of one."""
    if index not in column.embeddings:
        return {"label": answer.label, "score": answer.score, "scores": answer.scores}
    return {"label": None, "score": None, "scores": {}, "embedding": column.embeddings[index].tolist()}


def _generated(column: Column) -> list[Prediction]:
    """What was written, and which label it is if it is one: nothing is scored."""
    labels = frozenset(column.card.spec.labels)
    texts = [column.texts.get(index, "") for index in range(len(column.num_tokens))]
    return [
        {"label": text if text in labels else None, "score": None, "scores": {}, "text": text}
        for text in texts
    ]


def count_outcome(metrics: Metrics, task: str, column: Column) -> None:
    """Record how many items of a task were answered, and why others were not."""
    metrics.count_predictions(task, len(column.num_tokens) - len(column.errors))
    for code, count in Counter(error.code for error in column.errors.values()).items():
        metrics.item_errors.labels(code).inc(count)
        if code == "non_finite":
            metrics.non_finite.inc(count)


def _withhold_non_finite(column: Column) -> None:
    finite = np.isfinite(column.logits).all(axis=1)  # [N]
    odd = [index for index, value in column.embeddings.items() if not np.isfinite(value).all()]
    for index in [*np.flatnonzero(~finite).tolist(), *odd]:
        message = f"inputs[{index}]: the model's output is not finite; no answer is better than a wrong one"
        column.errors.setdefault(index, ItemError("non_finite", message, index))
