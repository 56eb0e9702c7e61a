"""Commands whose options come from other packages: those are imported when the command is used, not before.

`trunkline --help` needs their name and one sentence only, and so answers at once.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from trunkline.cli.boundary import guarded

HELP_NAMES = {"help_option_names": ["--help", "-h"]}
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def defer(
    app: typer.Typer, name: str, summary: str, panel: str, build: Callable[[], Callable[..., None]]
) -> None:
    """Add the command `name` to `app`; `build` gives the real one, which then reads the arguments itself."""

    @guarded
    def run(ctx: typer.Context) -> None:
        inner = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=HELP_NAMES)
        inner.command(name)(build())
        typer.main.get_command(inner).main(list(ctx.args), prog_name=ctx.command_path)

    app.command(name, help=summary, rich_help_panel=panel, add_help_option=False, context_settings=PASS_ON)(
        run
    )


@contextmanager
def imports() -> Iterator[None]:
    """For imports of libraries: of their hundreds of thousands of objects none will be garbage."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
