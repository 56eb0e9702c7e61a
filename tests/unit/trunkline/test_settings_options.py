"""Settings classes as options: every setting has its flag, and only what was given is passed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field, SecretStr
from typer.testing import CliRunner, Result

from service.settings import Settings
from tests.unit.trunkline.conftest import Run
from training.settings.config import TrainConfig
from trunkline.cli.settings import given_values, settings_of, with_options


@dataclass(frozen=True)
class Shop:
    name: str = field(metadata={"panel": "Front", "help": "what it is called"})
    shelves: int = field(default=3, metadata={"panel": "Front", "help": "how many"})
    rate: float | None = field(default=None, metadata={"panel": "Other", "help": "how fast"})
    open: bool = field(default=True, metadata={"panel": "Other", "help": "whether one may enter"})
    colours: tuple[str, ...] | None = field(default=None, metadata={"panel": "Other", "help": "of the walls"})
    prices: Mapping[str, Any] = field(default_factory=dict, metadata={"panel": "Other", "help": "by article"})


class Depot(BaseModel):
    place: Path = Field(Path("here"), description="where it is", json_schema_extra={"panel": "Front"})
    mode: Literal["day", "night"] = Field(
        "day", description="when it works", json_schema_extra={"panel": "Front"}
    )
    key: SecretStr | None = Field(None, description="to the door", json_schema_extra={"panel": "Front"})


Parse = Callable[..., tuple[Result, dict[str, Any]]]


@pytest.fixture
def parse() -> Parse:
    """Runs a command with the options of a settings class; gives the result and what the class would get."""

    def run(cls: type[Any], *args: str) -> tuple[Result, dict[str, Any]]:
        settings, got = settings_of(cls), {}

        def command(**given: Any) -> None:
            got.update(given_values(settings, given))

        app = typer.Typer(add_completion=False)
        app.command()(with_options(command, settings))
        return CliRunner().invoke(app, list(args), env={"COLUMNS": "120", "NO_COLOR": "1"}), got

    return run


def test_only_what_was_given_is_passed_on(parse: Parse) -> None:
    assert parse(Shop, "--name", "x")[1] == {"name": "x"}


def test_every_kind_of_value(parse: Parse) -> None:
    options = ["--name", "x", "--shelves", "4", "--rate", "0.5", "--no-open", "--colours", "red, green"]
    result, got = parse(Shop, *options, "--prices", "ham=2", "--prices", "egg=cheap", "--prices", "all=[1,2]")
    assert result.exit_code == 0, result.output
    assert got == {
        "name": "x",
        "shelves": 4,
        "rate": 0.5,
        "open": False,
        "colours": ("red", "green"),
        "prices": {"ham": 2, "egg": "cheap", "all": [1, 2]},
    }


def test_names_with_commas_are_written_as_json(parse: Parse) -> None:
    assert parse(Shop, "--name", "x", "--colours", '["red, dark", "green"]')[1]["colours"] == (
        "red, dark",
        "green",
    )


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--name", "x", "--shelves", "many"],
        ["--name", "x", "--prices", "ham"],
        ["--name", "x", "--prices", "=2"],
        ["--name", "x", "--colours", '["red"'],
        ["--name", "x", "--nonsense", "1"],
    ],
)
def test_what_cannot_be_read_is_wrong_usage(parse: Parse, args: list[str]) -> None:
    result, got = parse(Shop, *args)
    assert result.exit_code == 2
    assert got == {}


def test_a_pydantic_model_works_as_well(parse: Parse) -> None:
    result, got = parse(Depot, "--place", "there", "--mode", "night", "--key", "secret")
    assert result.exit_code == 0, result.output
    assert Depot(**got) == Depot(place=Path("there"), mode="night", key=SecretStr("secret"))


def test_help_tells_meaning_default_and_choices(parse: Parse) -> None:
    shop = parse(Shop, "--help")[0].stdout
    for part in ("how many. Default: 3.", "whether one may enter. Default: on.", "how fast.", "[required]"):
        assert part in shop
    assert "Front" in shop
    assert "Other" in shop
    assert "day|night" in parse(Depot, "--help")[0].stdout


@pytest.mark.parametrize(("command", "cls"), [("train", TrainConfig), ("serve", Settings)])
def test_every_setting_has_a_flag_under_a_heading(run: Run, command: str, cls: type[Any]) -> None:
    """Through the real program: a setting added by its owner appears without an edit here."""
    page = run(command, "--help")
    assert page.exit_code == 0, page.output
    for setting in settings_of(cls):
        assert f"{setting.flag} " in page.stdout, setting.flag
