"""`predict`: texts from arguments, stdin or a file of rows to one or several tasks of a server."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trunkline.cli.answers import One, chunks, print_answers, tell_failures
from trunkline.cli.boundary import guarded
from trunkline.cli.options import DEFAULT_URL, Timeout, Token, Url

if TYPE_CHECKING:
    from trunkline.client import Client

_FILES = "A file of rows"


def register(app: typer.Typer) -> None:
    app.command("predict", rich_help_panel="Use a server")(predict)


@guarded
def predict(
    task: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="Task: NAME, NAME@3 or NAME@ALIAS; repeat for several."),
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to answer for.")
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Second text, for tasks on pairs: one for each TEXT."),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="For tasks that choose: what each text may go on with."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Rows in any format that training reads (.csv, .jsonl, .parquet, .xlsx, a folder…), or "
            ".txt with a text a line.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write every row with its answers beside it: a .csv, .jsonl or .parquet file. The same "
            "command again goes on where an interrupted one was.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace --out if it is there, and drop the part of another command.",
            rich_help_panel=_FILES,
        ),
    ] = False,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help='How the columns of answers begin: "predicted_" for one task, "NAME." for several.',
            rich_help_panel=_FILES,
        ),
    ] = None,
    text_fields: Annotated[
        str | None,
        typer.Option(
            metavar="A[,B]",
            help="The columns with the texts, if not called as in training.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    choice_fields: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="The columns with the choices (or the one with their list), if not called as in training.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of a folder: train, validation or test.", rich_help_panel=_FILES),
    ] = None,
    in_flight: Annotated[
        int,
        typer.Option(min=1, max=64, help="Requests under way at once.", rich_help_panel=_FILES),
    ] = 4,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="The lines are JSON, whatever the file's name; for stdin.")
    ] = False,
    top_k: Annotated[int | None, typer.Option(min=1, help="Show only the best scores.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Add the logits (with --json or --out).")] = False,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut inputs that are too long, instead of refusing them.")
    ] = False,
    generate: Annotated[
        bool,
        typer.Option("--generate", help="Text-to-text tasks: write the answer, do not score the labels."),
    ] = False,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer to write with --generate, in tokens.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Inputs per request.")] = 256,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object per input and task, a line each, as answers come; with --out, "
            "the outcome.",
        ),
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 120.0,
) -> None:
    """Ask a server about texts from the arguments, stdin (one a line), or a file of rows.

    The exit status is 1 when an input failed; the others are answered all the same.

    Example: trunkline predict --task intent --task urgency "Where is my parcel?"

    A table, with each row's answer beside it: trunkline predict --task intent --file tickets.csv
    --out answered.csv
    """
    from trunkline.cli.predict_file import FileOptions, predict_file
    from trunkline.client import Client

    if (max_new_tokens is not None and not generate) or (generate and (raw or top_k)):
        raise typer.BadParameter("--generate takes --max-new-tokens, and neither --raw nor --top-k")
    if choice and (pair or len(choice) < 2):
        raise typer.BadParameter("--choice is needed at least twice, and not together with --pair")
    if file is None and (out or overwrite or prefix or text_fields or choice_fields or split):
        raise typer.BadParameter(
            "--out, --overwrite, --prefix, --text-fields, --choice-fields and --split are for --file"
        )
    if out is None and (overwrite or prefix is not None):
        raise typer.BadParameter("--overwrite and --prefix are for --out")
    options = {"top_k": top_k, "raw": raw, "truncate": truncate, "generate": generate}
    options["max_new_tokens"] = max_new_tokens
    references = list(dict.fromkeys(task))
    if file is not None:
        if texts:
            raise typer.BadParameter("give texts or --file, not both")
        given = FileOptions(
            file,
            out,
            overwrite,
            prefix,
            _names(text_fields),
            _names(choice_fields),
            split,
            jsonl,
            choice or [],
        )
        predict_file(given, references, options, (batch, in_flight), as_json, (url, token, timeout))
        return
    items = with_choices(_items(texts or [], pair or [], jsonl), choice or [])
    with Client(url, token=token, timeout=timeout) as client:
        answers = _ask(client, references, items, batch, options)
        found = print_answers(answers, as_json=as_json, many=len(references) > 1, top_k=top_k)
    tell_failures(*found)


def _names(listed: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in listed.split(",")) if listed else None


def _items(texts: Sequence[str], pairs: Sequence[str], jsonl: bool) -> Iterable[Any]:
    """The inputs, from arguments or stdin; raises typer.BadParameter when there is none."""
    from trunkline.bulk.lines import read_items

    if pairs and len(pairs) != len(texts):
        raise typer.BadParameter(f"--pair is needed once for each TEXT: got {len(pairs)} for {len(texts)}")
    if texts:
        return list(zip(texts, pairs, strict=True)) if pairs else texts
    if sys.stdin.isatty():
        raise typer.BadParameter('no texts: give them as arguments ("…"), with --file, or through stdin')
    return read_items(sys.stdin, as_json=jsonl, source="stdin")


def with_choices(items: Iterable[Any], choices: Sequence[str]) -> Iterable[Any]:
    """The inputs, each text with these choices; the ones that come with a second text or choices are kept."""
    if not choices:
        return items
    return ({"text": item, "choices": [*choices]} if isinstance(item, str) else item for item in items)


def _ask(
    client: Client, tasks: list[str], items: Iterable[Any], batch: int, options: dict[str, Any]
) -> Iterator[One]:
    """Every input with each task's answer, in the order of the inputs, a request per `batch` inputs."""
    for chunk in chunks(items, batch):
        if len(tasks) == 1:
            answers = {tasks[0]: client.predict(tasks[0], chunk, **options)}
        else:
            answers = client.predict_tasks(tasks, chunk, **options)
        for row, item in enumerate(chunk):
            yield from ((reference, item, predictions[row]) for reference, predictions in answers.items())
