"""The `trunkline` command: one program, a file for each group of commands.

Exit status: 0 done, 1 the operation failed (one sentence on stderr, then what it lists), 2 wrong usage, 130
and 143 stopped by SIGINT and SIGTERM (`serve` then ends with 0).
Files here import only typer at the top; torch, httpx and rich come when a command needs them.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn, TypeAlias

import typer

from trunkline.cli import (
    compare,
    data,
    evaluate,
    explain,
    files,
    lab,
    predict,
    prune,
    serve,
    streams,
    tasks,
    train,
)
from trunkline.cli.boundary import FAILED, TERMINATED, Terminated

HELP = """One frozen backbone, any number of tasks: train small adapters, serve them together, ask over HTTP.

Every command has --help with an example. The server is found at --url or TRUNKLINE_URL.
"""

app = typer.Typer(
    name="trunkline",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)


def tell_version(wanted: bool) -> None:
    """Print the version and end, before a command is asked for."""
    if wanted:
        typer.echo(f"trunkline {installed_version()}")
        raise typer.Exit


Version: TypeAlias = Annotated[
    bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=tell_version)
]


@app.callback()
def options(version: Version = False) -> None:
    """Options of the program itself."""


def installed_version() -> str:
    """The version of the installed package; "unknown" from a bare checkout."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of("trunkline")
    except PackageNotFoundError:
        return "unknown"


for group in (data, train, lab, evaluate, compare, prune, serve, predict, tasks, files, explain):
    group.register(app)


def main() -> None:
    """The program, from its streams and signals to its exit status."""
    streams.settle()
    _listen_to_signals(serves=sys.argv[1:2] == ["serve"])
    try:
        app(prog_name="trunkline")
    except SystemExit as end:
        if not streams.flushed() and not end.code:
            raise SystemExit(FAILED) from None
        raise
    except Terminated:  # before a command has begun
        raise SystemExit(TERMINATED) from None


def _listen_to_signals(*, serves: bool) -> None:
    """SIGTERM as an exception; a service that still imports ends at once and well: nothing was accepted."""
    signal.signal(signal.SIGTERM, _leave if serves else _terminate)
    if serves:
        signal.signal(signal.SIGINT, _leave)


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise Terminated


def _leave(_: int, __: FrameType | None) -> NoReturn:
    os._exit(0)
