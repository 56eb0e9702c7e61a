"""A command line in process, and a fake server behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import trunkline.client
from tests.unit.trunkline.fake_server import FakeServer
from trunkline.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `trunkline ARGS` and gives exit_code, stdout and stderr; no variable of this machine is seen."""
    for name in ("TRUNKLINE_URL", "TRUNKLINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def invoke(*args: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(args), input=stdin)

    return invoke


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeServer], FakeServer]:
    """Puts a fake server behind every client of the command line."""

    real = trunkline.client.Client  # here: a second server of a test takes the place of the first

    def use(server: FakeServer) -> FakeServer:
        def connect(url: str, **settings: Any) -> trunkline.client.Client:
            return real(url, transport=server.transport, **{**settings, "retries": 0})

        monkeypatch.setattr(trunkline.client, "Client", connect)
        return server

    return use
