"""`serve`: the service in this process. Its options are the service's own settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from trunkline.cli.boundary import FAILED, guarded
from trunkline.cli.deferred import defer
from trunkline.cli.printing import note
from trunkline.cli.settings import given_values, settings_of, with_options

if TYPE_CHECKING:
    from service.settings import Settings

HELP = """Serve every task of a store over HTTP, from one backbone.

Each option is also an environment variable: --max-items is TRUNKLINE_MAX_ITEMS. The option counts before it,
and an empty one is not given. What Kubernetes sets for a Service of this name (TRUNKLINE_PORT=tcp://…)
is ignored with a warning, as unknown TRUNKLINE_ names are. The server documents its HTTP interface at /docs.

Example: trunkline serve --store ./store --port 8000
"""


def register(app: typer.Typer) -> None:
    defer(app, "serve", HELP.split("\n", 1)[0], "Use a server", build)


def build() -> Callable[..., None]:
    """The command, with the service's settings as its options."""
    from service.settings import Settings

    settings = settings_of(Settings)

    @guarded
    def serve(**given: Any) -> None:
        from pydantic import ValidationError

        from service.settings import sentences

        try:
            chosen = Settings(**given_values(settings, given))
        except ValidationError as error:
            flags = {one.name: one.flag for one in settings if given[one.name] is not None}
            raise typer.BadParameter("; ".join(sentences(error, flags))) from None
        raise SystemExit(_serve(chosen))

    serve.__doc__ = HELP
    return with_options(serve, settings)


def _serve(settings: Settings) -> int:
    from service.errors import ConfigurationError
    from service.preflight import refusal
    from service.settings import remarks, resolve_token
    from service.threads import settle_process

    settle_process()
    for remark in remarks(settings, os.environ):
        note(f"warning: {remark}")
    try:
        token = resolve_token(settings)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from None

    if reason := refusal(settings):
        note(f"error: {reason}")
        return FAILED
    from service.server import serve

    if sys.stderr.isatty():
        access = "with a token" if token else "from this machine only"
        address = f"http://{settings.host}:{settings.port}"
        note(f"{settings.backbone} at {address} {access}; {address}/docs explains; Ctrl-C stops")
    return serve(settings)
