"""`evaluate`: an adapter file against rows of data, answered as the server would, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from trunkline.cli.boundary import guarded
from trunkline.cli.options import AdapterPath, AsJson
from trunkline.cli.printing import entities_shown, note, print_facts, print_json, print_table, shorten
from trunkline.cli.train import PANEL

if TYPE_CHECKING:
    from training.file.evaluate import FileEvaluation, RowAnswer

Data: TypeAlias = Annotated[
    Path, typer.Option(help="Folder with train/validation/test files, or one file of rows.", exists=True)
]
BackboneName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="minilm, a model directory or hub id; else the file's, if minilm or a directory here.",
    ),
]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
MaxRows: TypeAlias = Annotated[int | None, typer.Option(min=1, help="At most so many rows, drawn by label.")]


def register(app: typer.Typer) -> None:
    app.command("evaluate", rich_help_panel=PANEL)(evaluate)


@guarded
def evaluate(
    file: AdapterPath,
    data: Data,
    split: Annotated[
        str, typer.Option(help="Which file of the folder: train, validation or test.")
    ] = "validation",
    backbone: BackboneName = None,
    device: Device = "auto",
    max_rows: MaxRows = None,
    kind: Annotated[
        str | None,
        typer.Option(help="The kind of data, as in `trunkline train --help`; else as in training."),
    ] = None,
    text_fields: Annotated[
        str | None, typer.Option(metavar="A[,B]", help="The one or two text fields, else as in training.")
    ] = None,
    label_field: Annotated[
        str | None, typer.Option(help="The field with the label, else dataset.json's.")
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="The metric to put first.")] = None,
    split_rule: Annotated[
        str | None,
        typer.Option(help="files, or halve or thousand as in the Compacter paper; else as in training."),
    ] = None,
    generate: Annotated[
        bool,
        typer.Option("--generate", help="Text-to-text: let the decoder write freely, too, and score that."),
    ] = False,
    rows: Annotated[bool, typer.Option("--rows", help="Show each row with its answer, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score an adapter file on labelled rows, beside the trivial baseline; the answers are those of a server.

    Example: trunkline evaluate intent.safetensors --data ./intent --split test
    """
    from training.data.card import Flags
    from training.file.evaluate import evaluate_file
    from training.formats.official import SPLIT_RULES

    fields = tuple(name.strip() for name in text_fields.split(",")) if text_fields else None
    if split_rule not in (None, *SPLIT_RULES):
        raise typer.BadParameter(f"--split-rule is {split_rule!r}; allowed: {', '.join(SPLIT_RULES)}")
    found = evaluate_file(
        file,
        data,
        split,
        backbone_name=backbone,
        device=device,
        flags=Flags(kind, fields, label_field, None, metric),
        max_rows=max_rows,
        split_rule=split_rule,
        generate=generate,
    )
    for sentence in found.notes:
        note(sentence)
    if as_json:
        print_json(found.to_dict(with_rows=rows))
    else:
        _print(found, rows)


def _print(found: FileEvaluation, with_rows: bool) -> None:
    print_facts(
        [
            ("task", f"{found.task} ({found.method})"),
            ("file", found.digest),
            ("rows", f"{len(found.rows):,} of {found.source} ({found.split})"),
        ]
    )
    names = sorted(found.metrics, key=lambda name: (name != found.metric, name))
    baseline = found.baseline
    rows = [(name, baseline.values.get(name), found.metrics[name]) for name in names]
    print_table(["metric", f"{baseline.name}>", f"{found.method}>"], rows)
    if found.generated_metrics is not None:
        print_table(["metric", "generated freely>"], list(found.generated_metrics.items()))
    if with_rows:
        _print_rows(found)


def _print_rows(found: FileEvaluation) -> None:
    from training.rows.items import parts_of

    columns = ["row>", "text", "expected", "answer"]
    answers = [
        (row.row, _shown(parts_of(item)), _expected(row, parts_of(item)[0]), _answer(row), row.generated)
        for row, item in zip(found.rows, found.texts, strict=True)
    ]
    if found.generated_metrics is not None:
        print_table([*columns, "generated"], answers)
    else:
        print_table(columns, [answer[:-1] for answer in answers])


def _answer(row: RowAnswer) -> str | list[str]:
    """The label, or the entities, or the text that was written, or the number."""
    if row.entities is not None:
        return entities_shown((one["label"], one["text"]) for one in row.entities)
    return row.label or row.generated or f"{row.score:.4f}"


def _expected(row: RowAnswer, text: str) -> object:
    if row.entities is None:
        return row.expected
    return entities_shown((one["label"], text[one["start"] : one["end"]]) for one in row.expected)


def _shown(parts: tuple[str, ...]) -> str:
    return shorten(parts[0]) if len(parts) == 1 else " | ".join(shorten(part, 30) for part in parts)
