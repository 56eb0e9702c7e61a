"""A file of rows, asked and written: every column of a row, then the answers. Knows no command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.rows.tables import Table
from trunkline.answers import Prediction
from trunkline.bulk.asking import Answered, Question, answer, in_order, resolve
from trunkline.bulk.columns import Column, answer_columns, values_of
from trunkline.bulk.fields import Refused, Said, reading_for
from trunkline.bulk.output import format_for
from trunkline.bulk.part import Done, Part, check_out
from trunkline.bulk.source import Source
from trunkline.calls import Options

if TYPE_CHECKING:
    from trunkline.client import Client


@dataclass(frozen=True)
class Pace:
    """Rows of a request, and how many requests are under way at once."""

    batch: int = 256
    in_flight: int = 4


def question_for(
    client: Client, references: Iterable[str], source: Source, said: Said, options: Options
) -> tuple[Question, list[str]]:
    """What each row of the source is asked, and what is told of that.

    Raises:
        NotFound, Invalid: a task that is not there, or fields that the file does not have.
    """
    asked = tuple(resolve(client, reference) for reference in dict.fromkeys(references))
    told: list[str] = []
    readings = []
    for one in asked:
        reading, note = None, ""
        if not source.are_inputs:
            reading, note = reading_for(one.reference, one.version, source.columns, said, source.name)
        readings.append(reading)
        told += [note] * bool(note)
    return Question(asked, tuple(readings), said.choices, options), told


def answers_of(
    client: Client, question: Question, source: Source, pace: Pace, skipped: int = 0
) -> Iterator[Answered]:
    """The rows behind the first `skipped` with their answers, in order; only few are held at a time."""

    def ask(table: Table) -> Answered:
        return answer(client, question, table)

    return in_order(ask, source.tables(pace.batch, skipped), pace.in_flight)


def asked_of(answered: Answered, question: Question) -> Iterator[tuple[str, Any, Prediction]]:
    """Reference, input and answer, row by row."""
    for row in range(answered.table.num_rows):
        for place, one in enumerate(question.asked):
            item = answered.items[place][row]
            shown = None if isinstance(item, Refused) else item
            yield one.reference, shown, answered.predictions[place][row]


@dataclass(frozen=True)
class Output:
    """Where answers go; `prefix` begins the names of their columns, None: as `answer_columns` has it."""

    path: Path
    prefix: str | None = None
    overwrite: bool = False


def open_part(output: Output, source: Source, question: Question) -> tuple[Part, list[dict[str, Column]]]:
    """The unfinished output, begun or gone on with, and the columns of each task.

    Raises:
        Invalid: an ending that is not written, a column's name that is taken. Conflict: see Part.
    """
    kind = format_for(output.path)
    check_out(output.path, source.paths)
    columns = answer_columns(question, output.prefix, source.columns)
    types = dict(source.columns)
    for own in columns:
        types |= {name: column.type for name, column in own.items()}
    part = Part(output.path, kind(types), _command(source, question, types), overwrite=output.overwrite)
    return part, columns


def _command(source: Source, question: Question, types: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a part to be gone on with."""
    return {
        "input": {"sha256": source.digest(), "rows": source.num_rows},
        "tasks": [
            {"task": one.task, "version": one.version.version, "digest": one.version.digest}
            for one in question.asked
        ],
        "reads": [reading and [*reading.form.names, *reading.columns] for reading in question.readings],
        "options": {**question.options, "choices": question.choices},
        "columns": [*types],
    }


def write_answers(
    client: Client,
    question: Question,
    source: Source,
    part: Part,
    columns: list[dict[str, Column]],
    pace: Pace,
    told: Callable[[Done], None],
) -> Done:
    """All rows that the part has not yet, then the whole file in its place; `told` hears of each step.

    What was answered is kept, whatever ends it.
    """
    try:
        told(part.done)
        for answered in answers_of(client, question, source, pace, part.done.rows):
            part.add(_values(answered, columns), failed=_failed(answered), empty=_empty(answered))
            told(part.done)
        part.finish()
    finally:
        part.close()
    return part.done


def _values(answered: Answered, columns: list[dict[str, Column]]) -> dict[str, Any]:
    values: dict[str, Any] = dict(answered.table.columns)
    for own, predictions in zip(columns, answered.predictions, strict=True):
        values |= values_of(own, predictions)
    return values


def _failed(answered: Answered) -> int:
    return sum(not one.ok for predictions in answered.predictions for one in predictions)


def _empty(answered: Answered) -> int:
    """Rows whose text has nothing in it; they are answered all the same, as in training."""
    texts = [item["text"] if isinstance(item, dict) else item for item in answered.items[0]]
    return sum(isinstance(text, str) and not text.strip() for text in texts)
