"""`compare`: two adapter files on the same rows, with an error bar, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trunkline.cli.boundary import guarded
from trunkline.cli.evaluate import BackboneName, Data, Device, MaxRows, shown_parts
from trunkline.cli.options import AsJson
from trunkline.cli.printing import note, print_facts, print_json, print_line, print_table, size
from trunkline.cli.train import PANEL

if TYPE_CHECKING:
    from training.file.compare import Comparison


def register(app: typer.Typer) -> None:
    app.command("compare", rich_help_panel=PANEL)(compare)


@guarded
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Adapter file.", exists=True, dir_okay=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other one.", exists=True, dir_okay=False)],
    data: Data,
    split: Annotated[str, typer.Option(help="Which file of the folder: train, validation or test.")] = "test",
    backbone: BackboneName = None,
    device: Device = "auto",
    max_rows: MaxRows = None,
    kind: Annotated[str | None, typer.Option(help="The kind of data; else as in training.")] = None,
    text_fields: Annotated[
        str | None, typer.Option(metavar="A[,B]", help="The one or two text fields, else as in training.")
    ] = None,
    label_field: Annotated[
        str | None, typer.Option(help="The field with the label, else dataset.json's.")
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="The metric to compare.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    rows: Annotated[bool, typer.Option("--rows", help="Show the rows that one alone gets right.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether one of two adapter files is better, by a paired test on the same rows.

    The difference has a 95 % interval (paired bootstrap); right and wrong rows are tested by McNemar's exact
    test. "No difference" is said where nought is in the interval.

    Example: trunkline compare intent-a.safetensors intent-b.safetensors --data ./intent --split test
    """
    from training.data.card import Flags
    from training.file.compare import compare_files

    fields = tuple(name.strip() for name in text_fields.split(",")) if text_fields else None
    found = compare_files(
        first,
        second,
        data,
        split,
        backbone_name=backbone,
        device=device,
        flags=Flags(kind, fields, label_field, None, metric),
        max_rows=max_rows,
        seed=seed,
    )
    for sentence in dict.fromkeys((*found.first.notes, *found.second.notes)):
        note(sentence)
    if as_json:
        print_json(found.to_dict(with_rows=rows))
    else:
        _print(found, rows)


def _print(found: Comparison, with_rows: bool) -> None:
    one, other = found.first, found.second
    print_facts(
        [
            ("A", f"{found.names[0]}: {one.method}, {size(found.sizes[0])}"),
            ("B", f"{found.names[1]}: {other.method}, {size(found.sizes[1])}"),
            ("rows", f"{len(one.rows):,} of {one.source} ({one.split})"),
            *_agreement(found),
        ]
    )
    names = sorted(one.metrics, key=lambda name: (name != found.metric, name))
    print_table(
        ["metric", "A>", "B>", "B - A>"],
        [
            (name, one.metrics[name], other.metrics[name], other.metrics[name] - one.metrics[name])
            for name in names
        ],
    )
    if with_rows:
        print_table(
            ["row>", "text", "expected", "A", "B"],
            [(row.row, shown_parts(row.item), row.expected, row.first, row.second) for row in found.rows],
        )
    print_line(found.verdict)


def _agreement(found: Comparison) -> list[tuple[str, str]]:
    if found.agreement is None:
        return []
    rows = found.agreement
    told = f"{rows.both:,} by both, {rows.only_first:,} by A alone, {rows.only_second:,} by B alone, "
    told += f"{rows.neither:,} by none"
    return [("right", f"{told} (McNemar's exact test: p = {found.p_value:.4f})")]
