"""`train`: every setting of a run as an option, progress while it runs, the outcome as a table or JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trunkline.cli.boundary import Terminated, guarded
from trunkline.cli.deferred import defer, imports
from trunkline.cli.leaderboard import print_leaderboard
from trunkline.cli.printing import note, print_facts, print_json, print_table, size
from trunkline.cli.progress import watch
from trunkline.cli.settings import given_values, settings_of, with_options

if TYPE_CHECKING:
    from training.report.result import TrainResult
    from training.settings.config import TrainConfig

PANEL = "Train and measure"
TRAIN_HELP = """Train one task on a frozen backbone into one small adapter file.

The data is a folder with train and validation files, or one file (.jsonl, .jsonl.gz, .csv, .parquet),
described by a dataset.json beside it or by the options below. A run that was killed goes on where it was.

Example: trunkline train --data ./intent --task intent --out intent.safetensors

--method auto --budget 10m tries methods, rates and layers for that long, and keeps the best of them.

Text-to-text, as in the Compacter paper: trunkline train --data ./rte --task rte --backbone ./t5-base
--form text-to-text --method compacter --recipe compacter --split-rule paper
"""


def register(app: typer.Typer) -> None:
    defer(app, "train", TRAIN_HELP.split("\n", 1)[0], PANEL, build_train)


def build_train() -> Callable[..., None]:
    """The command, with every setting of a run as its options."""
    with imports():
        from training.settings.config import TrainConfig

    settings = settings_of(TrainConfig)

    @guarded
    def train(quiet: bool, as_json: bool, **given: Any) -> None:
        from training.errors import ConfigError

        try:
            _train(TrainConfig(**given_values(settings, given)), quiet, as_json)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None

    train.__doc__ = TRAIN_HELP
    return with_options(train, settings, _switches())


def _switches() -> list[inspect.Parameter]:
    quiet = typer.Option(
        "--quiet", "-q", help="No progress; warnings are still told.", rich_help_panel="What comes out"
    )
    as_json = typer.Option("--json", help="Print the outcome as JSON.", rich_help_panel="What comes out")
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter("quiet", kind, default=False, annotation=Annotated[bool, quiet]),
        inspect.Parameter("as_json", kind, default=False, annotation=Annotated[bool, as_json]),
    ]


def _train(config: TrainConfig, quiet: bool, as_json: bool) -> None:
    with imports():
        from modeling.allocator import keep_freed_memory
        from proof.ahead import checker
        from training.lab.search import search
        from training.run import train

    keep_freed_memory()
    before = _stamp(config.out_path)
    try:
        with checker() as verify, watch(quiet) as progress:
            result = train(config, progress=progress, verify=verify, search=search)
    except (KeyboardInterrupt, Terminated):
        if _stamp(config.out_path) == before:
            note(f"{config.out_path} is not written; the same command goes on from where this one was")
        raise
    if as_json:
        print_json(result.to_dict())
        return
    print_outcome(result)


def print_outcome(result: TrainResult) -> None:
    """Facts, scores, and what a search tried."""
    print_facts(_facts(result))
    _print_scores(result)
    if result.leaderboard is not None:
        print_leaderboard(result.leaderboard)


def _stamp(path: Path) -> int | None:
    """What changes when the file is written anew; None without one."""
    return path.stat().st_mtime_ns if path.exists() else None


def _facts(result: TrainResult) -> list[tuple[str, object]]:
    mean, deviation = result.spread
    share = f"{result.num_body_parameters:,} ({result.body_share:.3%} of the backbone's)"
    seeds = (
        f"{len(result.seed_values)}, {result.metric} {mean:.4f} ± {deviation:.4f}; kept seed {result.seed}"
    )
    facts: list[tuple[str, object]] = [
        ("task", f"{result.task} ({result.kind}, {_outputs(result)})"),
        ("rows", f"{result.num_train:,} to learn from, {result.num_validation:,} to measure on"),
        ("method", f"{result.method} on {result.backbone}"),
        ("parameters", f"{share} and {result.num_head_parameters:,} in the head"),
        ("seeds", seeds if len(result.seed_values) > 1 else result.seed),
        ("time", f"{result.seconds:.1f} s"),
    ]
    if result.file is not None:
        facts.append(("file", f"{result.file.path} ({size(result.file.size_bytes)})"))
    return facts


def _outputs(result: TrainResult) -> str:
    return f"{len(result.labels)} outputs" if result.labels else "no labels"


def _print_scores(result: TrainResult) -> None:
    """Every metric: of the trivial baseline, after stage one, and at the end."""
    baseline, head = result.baseline.values, result.head_metrics or {}
    columns = ["validation metric", f"{result.baseline.name}>", "head alone>", f"{result.method}>"]
    names = sorted(result.metrics, key=lambda name: (name != result.metric, name))
    print_table(columns, [(name, baseline.get(name), head.get(name), result.metrics[name]) for name in names])
