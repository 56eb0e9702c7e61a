"""`data`: the page that a run begins with, without training: what is understood of files and labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from trunkline.cli.boundary import guarded
from trunkline.cli.deferred import defer
from trunkline.cli.printing import print_facts, print_json
from trunkline.cli.settings import given_values, settings_of, with_options
from trunkline.cli.train import PANEL

DATA_HELP = """Show what is understood of rows: files, splits, fields, kind, labels, and what is doubtful.

Nothing is trained and no model is loaded. The options are those of `trunkline train`, which begins with
this page.

Example: trunkline data tickets.csv --text-fields subject,body --label-field queue
"""
_SHOWN_PANELS = ("Data", "Text-to-text")
_ALSO = ("form", "recipe", "seed")


def register(app: typer.Typer) -> None:
    defer(app, "data", DATA_HELP.split("\n", 1)[0], PANEL, build_data)


def build_data() -> Callable[..., None]:
    """The command, with the settings of a run that are about data as its options."""
    from training.settings.config import TrainConfig

    listed = [s for s in settings_of(TrainConfig) if s.panel in _SHOWN_PANELS or s.name in _ALSO]
    settings = [replace(setting, panel="Data") for setting in listed]

    @guarded
    def data(path: str, as_json: bool, **given: Any) -> None:
        from training.data.load import load_data
        from training.errors import ConfigError

        try:
            page = load_data(TrainConfig(data=path, task="data", **given_values(settings, given))).page
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None
        if as_json:
            print_json(page.to_dict())
            return
        print_facts(page.facts())
        for sentence in page.notes:
            typer.echo(f"- {sentence}")

    data.__doc__ = DATA_HELP
    return with_options(data, settings, _own_options())


def _own_options() -> list[inspect.Parameter]:
    path = typer.Argument(
        metavar="FILE|DIR", help="One file of rows, or a folder with a file for each split."
    )
    as_json = typer.Option("--json", help="Print the page as JSON.")
    return [
        inspect.Parameter("path", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, path]),
        inspect.Parameter(
            "as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, as_json]
        ),
    ]
