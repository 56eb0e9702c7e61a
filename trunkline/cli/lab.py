"""`lab`: a search for several tasks, one after the other, within one time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trunkline.cli.boundary import FAILED, guarded, is_expected, print_error
from trunkline.cli.deferred import imports
from trunkline.cli.evaluate import Device
from trunkline.cli.finished import Finished
from trunkline.cli.options import AsJson
from trunkline.cli.printing import note, print_json, print_line, print_table, size
from trunkline.cli.progress import watch
from trunkline.cli.train import PANEL, print_outcome

if TYPE_CHECKING:
    from training.file.announce import Verify
    from training.report.result import TrainResult
    from training.settings.config import TrainConfig


def register(app: typer.Typer) -> None:
    app.command("lab", rich_help_panel=PANEL)(lab)


@guarded
def lab(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="A folder of data for each task.")
    ],
    budget: Annotated[str, typer.Option(help="Time for all tasks: 90s, 10m, 1h.")] = "10m",
    out: Annotated[
        Path, typer.Option(help="Folder for the adapter files, <folder>.safetensors each.", file_okay=False)
    ] = Path("."),
    backbone: Annotated[str, typer.Option(help="`minilm`, a local model directory, or a hub id.")] = "minilm",
    form: Annotated[str, typer.Option(help="head or text-to-text.")] = "head",
    device: Device = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Choose method, rate and layers for several tasks: `train --method auto` for each, within one time.

    The time is shared out evenly among the tasks that are left. A task that fails is told, and the others go
    on; the exit status is 1 then. After a kill or a failure the same command goes on: tasks that were
    finished stay as they are (lab.resume), the one that was not goes on from <folder>.safetensors.lab.

    Example: trunkline lab ./intent ./topic --budget 20m --out adapters
    """
    from training.errors import ConfigError
    from training.settings.checks import AUTO, seconds_of
    from training.settings.config import TrainConfig

    def config_of(folder: Path, seconds: float) -> TrainConfig:
        name = folder.resolve().name.lower()
        return TrainConfig(
            data=str(folder),
            task=name,
            out=str(out / f"{name}.safetensors"),
            backbone=backbone,
            form=form,
            device=device,
            seed=seed,
            method=AUTO,
            budget=f"{max(seconds, 0.001):.3f}s",
        )

    try:
        until = time.monotonic() + seconds_of(budget)
        _check_names([config_of(folder, seconds_of(budget)) for folder in folders])
    except (ConfigError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    where = [str(folder.resolve()) for folder in folders]
    asked = {"folders": where, "budget": budget, "backbone": backbone, "form": form, "seed": seed}
    with imports():
        from modeling.allocator import keep_freed_memory
        from proof.ahead import checker

    keep_freed_memory()
    finished = Finished(out / "lab.resume", asked)
    found = []
    with checker() as verify:  # forked before anything is read or trained
        for place, folder in enumerate(folders):
            config = config_of(folder, (until - time.monotonic()) / (len(folders) - place))
            if (before := finished.of(config.task)) is not None:
                note(f"{config.task}: {config.out} was finished before; remove {finished.path} to try anew")
                found.append(before)
            elif (result := _one_task(config, verify, quiet)) is not None:
                found.append(finished.add(result))
                if not as_json:
                    print_outcome(result)
                    print_line("")
    _print(found, as_json)
    if len(found) < len(folders):
        raise typer.Exit(FAILED)
    finished.path.unlink(missing_ok=True)


def _check_names(configs: Sequence[TrainConfig]) -> None:
    """Folders of one name would write one file."""
    counts = Counter(config.task for config in configs)
    name, count = counts.most_common(1)[0]
    if count > 1:
        raise typer.BadParameter(f"{count} folders are called {name}, and each is a task: rename one")


def _one_task(config: TrainConfig, verify: Verify, quiet: bool) -> TrainResult | None:
    """What was found; None for what failed, which is told."""
    with imports():
        from training.lab.search import search
        from training.run import train

    note(f"{config.task}:")
    try:
        with watch(quiet) as progress:
            return train(config, progress=progress, verify=verify, search=search)
    except Exception as error:
        if not is_expected(error):
            raise
        print_error(error)
        return None


def _print(found: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [(r["task"], r["method"], r["metric"], r["value"], size(r["file"]["size_bytes"])) for r in found]
    print_table(["task", "method", "metric", "value>", "file>"], rows)
