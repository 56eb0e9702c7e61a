"""`predict --file`: what is printed or written of a file of rows, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from trunkline.cli.answers import print_answers, tell_failures
from trunkline.cli.counting import count_rows
from trunkline.cli.printing import note, print_facts, print_json

if TYPE_CHECKING:
    from trunkline.bulk.asking import Question
    from trunkline.bulk.part import Done
    from trunkline.bulk.source import Source
    from trunkline.bulk.writing import Output, Pace
    from trunkline.calls import Options
    from trunkline.client import Client

RETRIES = 8
"""Half a minute in all: a long run waits for a server that is full, where a single question does not."""


@dataclass(frozen=True)
class FileOptions:
    """What the flags say of the file and of where its answers go."""

    file: Path
    out: Path | None
    overwrite: bool
    prefix: str | None
    text_fields: tuple[str, ...] | None
    choice_fields: tuple[str, ...] | None
    split: str | None
    as_json_lines: bool
    choices: Sequence[str]


def predict_file(
    given: FileOptions,
    references: list[str],
    options: dict[str, Any],
    pace: tuple[int, int],
    as_json: bool,
    server: tuple[str, str | None, float],
) -> None:
    """Ask for every row; `pace` is rows a request and requests at once, `server` address, token, timeout.

    Raises:
        typer.BadParameter: an ending that is not read or not written. SystemExit: answers that failed.
    """
    from trunkline.bulk.fields import Said
    from trunkline.bulk.output import format_for
    from trunkline.bulk.source import open_source
    from trunkline.bulk.writing import Output, Pace, question_for
    from trunkline.client import Client

    if given.out is not None:
        format_for(given.out)
    source = open_source(given.file, as_json=given.as_json_lines, split=given.split)
    _check_fields(given, source)
    said = Said(given.text_fields, given.choice_fields, tuple(given.choices))
    url, token, timeout = server
    with Client(url, token=token, timeout=timeout, retries=RETRIES) as client:
        question, told = question_for(client, references, source, said, cast("Options", options))
        for sentence in (*source.notes, *told):
            note(f"note: {sentence}")
        if given.out is None:
            _print(client, question, source, Pace(*pace), as_json)
        else:
            output = Output(given.out, given.prefix, given.overwrite)
            _write(client, question, source, output, Pace(*pace), as_json)


def _check_fields(given: FileOptions, source: Source) -> None:
    if source.are_inputs and (given.text_fields or given.choice_fields):
        raise typer.BadParameter(
            f"{given.file.name} holds inputs, one a line, and no rows with fields: leave --text-fields and "
            "--choice-fields out"
        )


def _print(client: Client, question: Question, source: Source, pace: Pace, as_json: bool) -> None:
    from trunkline.bulk.writing import answers_of, asked_of

    answers = (
        one for answered in answers_of(client, question, source, pace) for one in asked_of(answered, question)
    )
    top_k = question.options.get("top_k")
    tell_failures(*print_answers(answers, as_json=as_json, many=len(question.asked) > 1, top_k=top_k))


def _write(
    client: Client, question: Question, source: Source, output: Output, pace: Pace, as_json: bool
) -> None:
    from trunkline.bulk.writing import open_part, write_answers

    part, columns = open_part(output, source, question)
    if part.begun_anew:
        note(f"note: {part.path} was another command's part; begun anew")
    elif part.done.rows:
        note(f"note: going on after row {part.done.rows:,} of {source.num_rows:,} ({part.path.name})")
    with count_rows(source.num_rows, part.done.rows) as counted:
        try:
            done = write_answers(
                client, question, source, part, columns, pace, lambda done: counted(done.rows, done.failed)
            )
        except BaseException:
            if part.done.rows:
                note(
                    f"{output.path} is not written; {part.done.rows:,} of {source.num_rows:,} rows are kept "
                    f"in {part.path.name}, and the same command goes on from there"
                )
            raise
    _tell(done, question, output, as_json)


def _tell(done: Done, question: Question, output: Output, as_json: bool) -> None:
    tasks = {one.reference: one.version.version for one in question.asked}
    facts = {"file": str(output.path), "rows": done.rows, "versions": tasks, "failed": done.failed}
    if as_json:
        print_json(facts)
    else:
        print_facts([("file", output.path), ("rows", f"{done.rows:,}"), ("versions", tasks)])
    if done.empty:
        note(f"note: rows with an empty text: {done.empty:,}; they were answered all the same")
    tell_failures(done.rows * len(tasks), done.failed, "; the columns of errors say why")
