"""`prune`: an adapter with fewer layers, chosen by how far they moved; scores for every number of layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trunkline.cli.boundary import guarded
from trunkline.cli.deferred import imports
from trunkline.cli.evaluate import BackboneName, Data, Device, MaxRows
from trunkline.cli.options import AdapterPath, AsJson
from trunkline.cli.printing import note, print_facts, print_json, print_table, size
from trunkline.cli.progress import watch
from trunkline.cli.train import PANEL

if TYPE_CHECKING:
    from training.file.prune import PruneResult


def register(app: typer.Typer) -> None:
    app.command("prune", rich_help_panel=PANEL)(prune)


@guarded
def prune(
    file: AdapterPath,
    data: Data,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Layers to keep; two thirds of them when not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Adapter file to write; FILE with .pruned when not given.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for a picture of score against parameters.", file_okay=False)
    ] = None,
    backbone: BackboneName = None,
    device: Device = "auto",
    max_rows: MaxRows = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop the layers of an adapter that moved least, score every number of layers, write the smaller file.

    On an encoder-decoder, layer i of encoder, decoder and cross-attention are kept or dropped together.

    Example: trunkline prune intent.safetensors --data ./intent --keep 4 --report reports
    """
    with imports():
        from proof.ahead import checker
        from training.errors import ConfigError
        from training.file.prune import prune_file

    try:
        with checker() as verify, watch(quiet) as progress:
            result = prune_file(
                file,
                data,
                keep=keep,
                out=out,
                report=report,
                backbone_name=backbone,
                device=device,
                max_rows=max_rows,
                progress=progress,
                verify=verify,
            )
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json(result.to_dict())
    else:
        _print(result)


def _print(result: PruneResult) -> None:
    kept = ", ".join(map(str, result.kept))
    print_facts(
        [
            ("task", f"{result.task} ({result.method})"),
            ("kept", f"{len(result.kept)} of {len(result.drifts)} layers: {kept}"),
            ("file", f"{result.file.path} ({size(result.file.size_bytes)})"),
            *([("picture", result.picture)] if result.picture else []),
        ]
    )
    columns = ["layers>", "parameters>", f"{result.metric} ({result.split})>", "dropped next", "its drift>"]
    drifts = {drift.layer: drift.drift for drift in result.drifts}
    rows = []
    for place, score in enumerate(result.scores):
        after = result.scores[place + 1].layers if place + 1 < len(result.scores) else ()
        (dropped,) = set(score.layers) - set(after) if after else (None,)
        told = ("", "") if dropped is None else (f"layer {dropped}", f"{drifts[dropped]:.3g}")
        rows.append((len(score.layers), f"{score.parameters:,}", score.metrics[result.metric], *told))
    print_table(columns, rows)
    settings = f"--method-config 'layers={list(result.kept)}'"
    note(f"to train these layers alone: trunkline train ... --method {result.method} {settings}")
