"""What can be set, asked, counted or caught is in the documents; what is generated there is of today."""

from __future__ import annotations

import dataclasses
import sys

import pytest
from typer.main import get_command

import trunkline
from scripts import generate_docs
from service.app import build_app
from service.metrics import Metrics
from service.settings import Settings
from tests.architecture.sources import ROOT
from training.settings.config import TrainConfig
from trunkline.cli import app

API, CLIENT, SETTINGS, OPERATIONS = (
    ROOT / "docs" / f"{name}.md" for name in ("api", "client", "settings", "operations")
)


def test_no_generated_section_is_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate_docs.py", "--check"])
    assert generate_docs.main() == 0, capsys.readouterr().out


def test_every_place_for_a_section_is_closed_and_known() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text()
        places = generate_docs.PLACE.findall(text)
        assert len(places) == text.count("<!-- generated: ") == text.count("<!-- end generated -->"), path
        assert {name for _, name, *_ in places} <= generate_docs.SECTIONS.keys()


def test_a_section_is_replaced_and_the_rest_left_alone() -> None:
    text = "before\n<!-- generated: metrics -->\nstale\n<!-- end generated -->\nafter\n"
    new = generate_docs.renewed(text)
    assert new.startswith("before\n<!-- generated: metrics -->\n| metric |")
    assert new.endswith("<!-- end generated -->\nafter\n")
    assert "stale" not in new
    assert generate_docs.renewed(new) == new
    with pytest.raises(KeyError, match="nonsense"):
        generate_docs.renewed("<!-- generated: nonsense -->\n<!-- end generated -->\n")


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrainConfig)] + [*Settings.model_fields])
def test_every_setting_is_documented(name: str) -> None:
    assert f"`--{name.replace('_', '-')}`" in SETTINGS.read_text()


def test_every_metric_is_documented() -> None:
    lines = Metrics().render().decode().splitlines()
    names = {line.split()[2] for line in lines if line.startswith("# HELP ")}
    named = {name for name in names if not name.endswith("_created")}
    assert len(named) > 10
    assert {name for name in named if f"`{name}`" not in OPERATIONS.read_text()} == set()


def test_every_route_is_documented() -> None:
    routes = build_app(Settings()).openapi()["paths"]
    text = API.read_text().replace("{n}", "{version}")
    parts = {path.removeprefix("/v1/tasks/{task}") or path for path in routes}
    assert {part for part in parts if part not in text} == set()


def test_every_error_code_is_documented() -> None:
    from service.api.errors import _HTTP_CODES, _TABLE

    codes = {code for _, _, code, _ in _TABLE} | {*_HTTP_CODES.values()}
    assert {code for code in codes if f"`{code}`" not in API.read_text()} == set()


def test_every_name_of_the_client_is_documented() -> None:
    text = CLIENT.read_text()
    errors = [name for name in trunkline.__all__ if isinstance(getattr(trunkline, name), type)]
    raised = [name for name in errors if issubclass(getattr(trunkline, name), Exception)]
    methods = [name for name in vars(trunkline.Client) if not name.startswith("_") and name != "close"]
    assert {
        name for name in [*raised, *methods] if f"{name}(" not in text and f"`{name}`" not in text
    } == set()


def test_every_command_is_documented() -> None:
    names = getattr(get_command(app), "commands", {})
    assert len(names) == 17
    assert {name for name in names if f"| `{name}` |" not in CLIENT.read_text()} == set()
