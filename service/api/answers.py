"""Finished jobs as answers, a whole column at once. Knows the shape of an answer in JSON; kinds decide."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from math import isfinite
from typing import Any

import numpy as np

from modeling.kinds.base import FEW_SCORES, Answer, by_row

from ..engine.request import Column, ItemError, Logits, Marked
from ..metrics import Metrics

Prediction = dict[str, Any]
_AS_IT_IS = nullcontext()
_NOTHING: Logits = np.empty(0, dtype=np.float32)


def predictions_of(column: Column, *, top_k: int | None, raw: bool) -> list[Prediction]:
    """One answer or error per item, in the order of the items."""
    answers = _generated(column) if column.generates else _scored(column, top_k)
    for answer, num_tokens, truncated in zip(answers, column.num_tokens, column.truncated, strict=True):
        answer["tokens"], answer["truncated"] = num_tokens, truncated
    if raw:
        for index, answer in enumerate(answers):
            answer.update(_raw(column, index))
    for index, error in column.errors.items():
        answers[index] = {"error": error.as_json()}
    return answers


def _raw(column: Column, index: int) -> Prediction:
    """The logits of an item: one per label or choice, or one list of them per word with the words."""
    row, marked = column.logits[index].tolist(), column.marked.get(index)
    if index in column.embeddings:  # there is no second text, and so no logit
        return {"logits": []}
    if not column.card.readout.reads_words:
        return {"logits": row[: len(column.choices[index])] if index in column.choices else row}
    if marked is None or index not in column.of_words:  # it has an error
        return {}
    logits = column.of_words[index].reshape(len(marked.words), len(column.card.spec.labels))
    return {"logits": logits.tolist(), "words": marked.words}


def _marked(column: Column) -> list[Prediction]:
    """The entities of each text."""
    items = range(len(column.num_tokens))
    words = [column.marked[index].words if index in column.of_words else [] for index in items]
    logits = by_row([column.of_words.get(index, _NOTHING) for index in items])
    _withhold_non_finite(column)
    with np.errstate(all="ignore"):
        answers = column.card.kind.decide(column.card.spec, logits, None, words)
    return [
        {
            "label": answer.label,
            "score": answer.score,
            "scores": answer.scores,
            "entities": _entities(answer, column.marked.get(index)),
        }
        for index, answer in enumerate(answers)
    ]


def _entities(answer: Answer, marked: Marked | None) -> list[dict[str, Any]]:
    text = "" if marked is None else marked.text
    return [
        {"start": start, "end": end, "label": label, "text": text[start:end], "score": score}
        for start, end, label, score in answer.entities or ()
    ]


def _scored(column: Column, top_k: int | None) -> list[Prediction]:
    if column.card.readout.reads_words:
        return _marked(column)
    _withhold_non_finite(column)
    card = column.card
    choices = [column.choices.get(i, ()) for i in range(len(column.num_tokens))] if card.kind.choices else ()
    # Rows with an error hold anything; they are replaced later. Numpy's switch costs as much as a softmax.
    with np.errstate(all="ignore") if column.errors else _AS_IT_IS:
        answers = card.kind.decide(card.spec, column.logits.astype(np.float64), top_k, choices)
    if card.readout.embeds:
        return [_compared(column, index, answer) for index, answer in enumerate(answers)]
    found = [_answer(answer, choices=card.kind.choices) for answer in answers]
    if card.spec.abstain is not None:  # `unknown` stands only where a label is withheld
        for answer, prediction in zip(answers, found, strict=True):
            prediction.update({"unknown": True} if answer.unknown else {})
    return found


def _answer(answer: Answer, *, choices: bool) -> Prediction:
    if not choices:
        return {"label": answer.label, "score": answer.score, "scores": answer.scores}
    return {"label": answer.label, "index": answer.choice, "score": answer.score, "scores": answer.scores}


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
    if not column.errors:
        return
    for code, count in Counter(error.code for error in column.errors.values()).items():
        metrics.item_errors.labels(code).inc(count)
        if code == "non_finite":
            metrics.non_finite.inc(count)


def _withhold_non_finite(column: Column) -> None:
    values = [*column.embeddings.items(), *column.of_words.items()]
    odd = [index for index, row in values if not np.isfinite(row).all()]
    for index in [*_non_finite_rows(column.logits), *odd]:
        message = f"inputs[{index}]: the model's output is not finite; no answer is better than a wrong one"
        column.errors.setdefault(index, ItemError("non_finite", message, index))


def _non_finite_rows(logits: Logits) -> list[int]:
    """Rows of logits [N, L] that hold something else than numbers; a few are looked at without numpy."""
    if logits.size <= FEW_SCORES:
        return [index for index, row in enumerate(logits.tolist()) if not all(map(isfinite, row))]
    rows: list[int] = np.flatnonzero(~np.isfinite(logits).all(axis=1)).tolist()
    return rows
