"""Answers on stdout, as lines of JSON or as tables. Knows how they look, not where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from trunkline.cli.boundary import FAILED
from trunkline.cli.printing import (
    cell,
    entities_shown,
    note,
    plain,
    print_line,
    print_table,
    shorten,
    to_json,
)

if TYPE_CHECKING:
    from trunkline.answers import Prediction

T = TypeVar("T")
One: TypeAlias = "tuple[str, Any, Prediction]"
"""The reference that was asked, the input, the answer."""

UNKNOWN = "unknown"  # where a task withholds its label
TABLE_ROWS = 1000
"""A table is printed whole, for its widths; more answers make several tables."""
_OWN_NAMES = {"text": "generated"}  # of a line in --json: its text is the input


def print_answers(answers: Iterable[One], *, as_json: bool, many: bool, top_k: int | None) -> tuple[int, int]:
    """All of them, as they come; returns how many there were and how many failed."""
    num_answers = num_failed = 0
    for piece in chunks(answers, 1 if as_json else TABLE_ROWS):
        if as_json:
            for reference, item, prediction in piece:
                print_line(_as_json(_line(reference, item, prediction)))
        else:
            columns = [
                "text",
                *(["task"] if many else []),
                "answer",
                "score>",
                *(["scores"] if top_k else []),
            ]
            print_table(columns, [_row(one, many, top_k) for one in piece])
        num_answers += len(piece)
        num_failed += sum(not prediction.ok for _, _, prediction in piece)
    return num_answers, num_failed


def tell_failures(num_answers: int, num_failed: int, where: str = "") -> None:
    """Ends with status 1 if there are any."""
    if num_failed:
        note(f"error: {num_failed:,} of {num_answers:,} answers failed{where}")
        raise SystemExit(FAILED)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items, in order, without reading ahead."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _as_json(line: dict[str, Any]) -> str:
    """Lone surrogates, which no stream of UTF-8 can hold, as escapes."""
    text = to_json(line)
    return text if not _has_surrogates(text) else json.dumps(line)


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _line(reference: str, item: Any, prediction: Prediction) -> dict[str, Any]:
    known = {
        _OWN_NAMES.get(name, name): value
        for name, value in plain(prediction).items()
        if name == "label" or (value is not None and (name != "unknown" or value))
    }
    return {**_input_fields(item), "reference": reference, **known}


def _row(one: One, many: bool, top_k: int | None) -> Sequence[object]:
    reference, item, prediction = one
    scores = {name: f"{score:.4f}" for name, score in prediction.scores.items()}
    score = None if prediction.label is None and not prediction.unknown else prediction.score
    task = [reference] if many else []
    return [_shown(item), *task, _answer(prediction), score, *([scores] if top_k else [])]


def _answer(prediction: Prediction) -> str:
    if prediction.error:
        return f"failed: {prediction.error.message}"
    if prediction.text is not None:
        answer = cell(prediction.text)
    elif prediction.unknown:
        answer = UNKNOWN
    elif prediction.embedding is not None:
        first = ", ".join(f"{value:.4f}" for value in prediction.embedding[:3])
        answer = f"embedding of {len(prediction.embedding)} numbers: {first}, …"
    elif prediction.entities is not None:
        answer = entities_shown((one.label, one.text) for one in prediction.entities)
    else:
        answer = cell(prediction.score if prediction.label is None else prediction.label)
    return f"{answer} (text was cut)" if prediction.truncated else answer


def _shown(item: Any) -> str:
    fields = _input_fields(item)
    texts = [fields["text"], *([fields["text_pair"]] if fields.get("text_pair") is not None else [])]
    return " | ".join(shorten(str(text), 60 // len(texts)) for text in texts)


def _input_fields(item: Any) -> dict[str, Any]:
    """The input as the HTTP interface writes it."""
    if isinstance(item, dict):
        return {"text": item.get("text"), **item}
    if isinstance(item, list | tuple) and len(item) == 2:
        return {"text": item[0], "text_pair": item[1]}
    return {"text": item}
