"""Finished jobs as answers: a whole column at once, with the same results as `modeling.answer` row by row.

Knows the shape of an answer in JSON. Kinds of heads that it has no fast form for go through
`modeling.answer`, so a new kind works before anyone makes it fast. N items, L labels, K choices or scores
that are returned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine.request import Column, ItemError
from ..metrics import Metrics

Floats = npt.NDArray[np.float64]
Prediction = dict[str, Any]

_MULTI_LABEL_THRESHOLD = 0.5


def predictions_of(column: Column, *, top_k: int | None, raw: bool) -> list[Prediction]:
    """One answer or error per item, in the order of the items."""
    answers = _generated(column) if column.generates else _scored(column, top_k)
    for answer, num_tokens, truncated in zip(answers, column.num_tokens, column.truncated, strict=True):
        answer["tokens"], answer["truncated"] = num_tokens, truncated
    if raw:
        for index, (answer, row) in enumerate(zip(answers, column.logits.tolist(), strict=True)):
            answer["logits"] = row[: len(column.choices[index])] if index in column.choices else row
    for index, error in column.errors.items():
        answers[index] = {"error": error.as_json()}
    return answers


def _scored(column: Column, top_k: int | None) -> list[Prediction]:
    _withhold_non_finite(column)
    fast = _FAST.get(column.card.spec.kind)
    if fast is None:
        return _one_by_one(column, top_k)
    with np.errstate(all="ignore"):  # rows with an error hold anything; they are replaced later
        return fast(column, column.logits.astype(np.float64), top_k)  # [N, L]


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
        metrics.item_errors.inc(code, by=count)
        if code == "non_finite":
            metrics.non_finite.inc(by=count)


def _withhold_non_finite(column: Column) -> None:
    finite = np.isfinite(column.logits).all(axis=1)  # [N]
    for index in np.flatnonzero(~finite).tolist():
        message = f"inputs[{index}]: the model's output is not finite; no answer is better than a wrong one"
        column.errors.setdefault(index, ItemError("non_finite", message, index))


def _single_label(column: Column, logits: Floats, top_k: int | None) -> list[Prediction]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    labels, scores = _best_first(column, powers / powers.sum(axis=1, keepdims=True), top_k)
    return [
        {"label": names[0], "score": values[0], "scores": dict(zip(names, values, strict=True))}
        for names, values in zip(labels, scores, strict=True)
    ]


def _multiple_choice(column: Column, logits: Floats, top_k: int | None) -> list[Prediction]:
    """Softmax over the K choices of each item, which are its own: not a whole column at once."""
    answers: list[Prediction] = []
    for index, row in enumerate(logits):
        choices = column.choices.get(index)
        if choices is None:  # an error stands in its place
            answers.append({})
            continue
        powers = np.exp(row[: len(choices)] - row[: len(choices)].max())
        scores = powers / powers.sum()  # [K]
        order = np.argsort(-scores, kind="stable").tolist()
        best = order[0]
        listed = {choices[place]: float(scores[place]) for place in order[:top_k]}
        found = {"label": choices[best], "index": best, "score": float(scores[best]), "scores": listed}
        answers.append(found)
    return answers


def _multi_label(column: Column, logits: Floats, top_k: int | None) -> list[Prediction]:
    threshold = column.card.spec.threshold
    least = _MULTI_LABEL_THRESHOLD if threshold is None else threshold
    small = np.exp(-np.abs(logits))  # of a negative number only: nothing overflows
    probabilities = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    num_chosen = (probabilities >= least).sum(axis=1).tolist()
    labels, scores = _best_first(column, probabilities, None)
    return [
        {
            "label": names[:chosen],
            "score": values[0],
            "scores": dict(zip(names[:top_k], values, strict=False)),
        }
        for names, values, chosen in zip(labels, scores, num_chosen, strict=True)
    ]


def _regression(column: Column, logits: Floats, top_k: int | None) -> list[Prediction]:
    spec = column.card.spec
    values = logits[:, 0]
    if spec.low is not None:
        values = np.maximum(values, spec.low)
    if spec.high is not None:
        values = np.minimum(values, spec.high)
    name = spec.labels[0]
    return [{"label": None, "score": value, "scores": {name: value}} for value in values.tolist()]


def _best_first(
    column: Column, scores: Floats, top_k: int | None
) -> tuple[Sequence[Sequence[str]], Sequence[Sequence[float]]]:
    """Labels and scores [N, K] by falling score; equal scores keep the order of the labels."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]  # [N, K]
    names = np.array(column.card.spec.labels, dtype=object)
    return names[order].tolist(), np.take_along_axis(scores, order, axis=1).tolist()


def _one_by_one(column: Column, top_k: int | None) -> list[Prediction]:
    from modeling import answer

    answers: list[Prediction] = []
    for index, logits in enumerate(column.logits):
        if index in column.errors:
            answers.append({})
            continue
        found = answer(column.card.spec, logits, top_k=top_k)
        answers.append({"label": found.label, "score": found.score, "scores": found.scores})
    return answers


_FAST: dict[str, Callable[[Column, Floats, int | None], list[Prediction]]] = {
    "single_label": _single_label,
    "multi_label": _multi_label,
    "multiple_choice": _multiple_choice,
    "regression": _regression,
    "text_to_text": _single_label,
}
