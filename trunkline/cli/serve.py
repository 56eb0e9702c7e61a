"""`serve`: the service in this process. Its options are the service's own settings."""

from __future__ import annotations

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

Each option is also an environment variable: --max-items is TRUNKLINE_MAX_ITEMS. The running server documents
its HTTP interface at /docs.

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

        try:
            chosen = Settings(**given_values(settings, given))
        except ValidationError as error:
            raise typer.BadParameter(_sentences(error.errors())) from None
        raise SystemExit(_serve(chosen))

    serve.__doc__ = HELP
    return with_options(serve, settings)


def _serve(settings: Settings) -> int:
    from service.errors import ConfigurationError
    from service.preflight import refusal
    from service.settings import resolve_token

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


def _sentences(errors: list[Any]) -> str:
    return "; ".join(f"--{_flag(e['loc'])} is {e.get('input')!r}: {e['msg']}" for e in errors)


def _flag(place: tuple[str | int, ...]) -> str:
    return ".".join(map(str, place)).replace("_", "-")
