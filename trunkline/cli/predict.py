"""`predict`: texts from arguments, a file or stdin to one or several tasks of a server."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trunkline.cli.boundary import FAILED, guarded
from trunkline.cli.options import DEFAULT_URL, Timeout, Token, Url
from trunkline.cli.printing import cell, note, plain, print_line, print_table, shorten, to_json
from trunkline.cli.reading import chunks, read_file, read_items

if TYPE_CHECKING:
    from trunkline.answers import Prediction
    from trunkline.client import Client


_OWN_NAMES = {"text": "generated"}  # of a line in --json: its text is the input


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
            help="One input a line: .txt, or .jsonl with texts, [text, text] or objects (.gz too).",
        ),
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="The lines are JSON, whatever the file's name; for stdin.")
    ] = False,
    top_k: Annotated[int | None, typer.Option(min=1, help="Show only the best scores.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Add the logits (with --json).")] = False,
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
            "--json", help="Print one JSON object per input and task, a line each, as answers come."
        ),
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 120.0,
) -> None:
    """Ask a server about texts from the arguments, a file, or stdin (one a line).

    The exit status is 1 when an input failed; the others are answered all the same.

    Example: trunkline predict --task intent --task urgency "Where is my parcel?"
    """
    from trunkline.client import Client

    if (max_new_tokens is not None and not generate) or (generate and (raw or top_k)):
        raise typer.BadParameter("--generate takes --max-new-tokens, and neither --raw nor --top-k")
    if choice and (pair or len(choice) < 2):
        raise typer.BadParameter("--choice is needed at least twice, and not together with --pair")
    items = with_choices(_items(texts or [], pair or [], file, jsonl), choice or [])
    options = {"top_k": top_k, "raw": raw, "truncate": truncate, "generate": generate}
    options["max_new_tokens"] = max_new_tokens
    with Client(url, token=token, timeout=timeout) as client:
        rows = _ask(client, list(dict.fromkeys(task)), items, batch, options)
        num_answers, num_failed = _print_lines(rows) if as_json else _print_rows(rows, len(task) > 1, top_k)
    if num_failed:
        note(f"error: {num_failed} of {num_answers} answers failed")
        raise SystemExit(FAILED)


def _items(texts: Sequence[str], pairs: Sequence[str], file: Path | None, jsonl: bool) -> Iterable[Any]:
    """The inputs, from the one place that was named; raises typer.BadParameter when there is none, or two."""
    if texts and file:
        raise typer.BadParameter("give texts or --file, not both")
    if pairs and len(pairs) != len(texts):
        raise typer.BadParameter(f"--pair is needed once for each TEXT: got {len(pairs)} for {len(texts)}")
    if texts:
        return list(zip(texts, pairs, strict=True)) if pairs else texts
    if file:
        return read_file(file, as_json=jsonl)
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
) -> Iterator[tuple[Any, Prediction]]:
    """Every input with each task's answer, in the order of the inputs, a request per `batch` inputs."""
    for chunk in chunks(items, batch):
        if len(tasks) == 1:
            answers = [client.predict(tasks[0], chunk, **options)]
        else:
            answers = list(client.predict_tasks(tasks, chunk, **options).values())
        for row, item in enumerate(chunk):
            yield from ((item, predictions[row]) for predictions in answers)


def _print_lines(rows: Iterable[tuple[Any, Prediction]]) -> tuple[int, int]:
    num_answers = num_failed = 0
    for item, prediction in rows:
        known = {
            _OWN_NAMES.get(name, name): value
            for name, value in plain(prediction).items()
            if value is not None or name == "label"
        }
        print_line(to_json({**_input_fields(item), **known}))
        num_answers, num_failed = num_answers + 1, num_failed + (not prediction.ok)
    return num_answers, num_failed


def _print_rows(rows: Iterable[tuple[Any, Prediction]], many: bool, top_k: int | None) -> tuple[int, int]:
    listed = list(rows)
    columns = ["text", *(["task"] if many else []), "answer", "score>", *(["scores"] if top_k else [])]
    print_table(columns, [_row(item, prediction, many, top_k) for item, prediction in listed])
    return len(listed), sum(not prediction.ok for _, prediction in listed)


def _row(item: Any, prediction: Prediction, many: bool, top_k: int | None) -> list[object]:
    scores = {name: f"{score:.4f}" for name, score in prediction.scores.items()}
    task = [prediction.task] if many else []
    score = None if prediction.label is None else prediction.score
    return [_shown(item), *task, _answer(prediction), score, *([scores] if top_k else [])]


def _answer(prediction: Prediction) -> str:
    if prediction.error:
        return f"failed: {prediction.error.message}"
    if prediction.text is not None:
        answer = cell(prediction.text)
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
