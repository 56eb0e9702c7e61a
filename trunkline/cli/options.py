"""Options that several commands share. Declares them; connects to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DEFAULT_URL = "http://127.0.0.1:8000"

Url: TypeAlias = Annotated[
    str,
    typer.Option("--url", envvar="TRUNKLINE_URL", help="Address of the server.", rich_help_panel="Server"),
]
Token: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="TRUNKLINE_TOKEN",
        show_envvar=True,
        help="Bearer token, if the server asks for one.",
        rich_help_panel="Server",
    ),
]
Timeout: TypeAlias = Annotated[
    float,
    typer.Option("--timeout", min=0.1, help="Seconds to wait for one answer.", rich_help_panel="Server"),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
TaskName: TypeAlias = Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")]
AdapterPath: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="Adapter file.", exists=True, dir_okay=False)
]
