"""`trunkline explain`: a table with a bar for each layer, JSON, attention heads, refusals with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration_training.conftest import save_tiny
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, quick, write_task
from tests.unit.trunkline.conftest import Run
from training.run import train
from trunkline.cli.explain import BAR, _bars


@pytest.fixture
def trained(tmp_path: Path) -> tuple[str, str]:
    """A Hadamard file and the directory of its backbone."""
    folder, out = write_task(tmp_path / "d", "single_sentence"), tmp_path / "demo.safetensors"
    config = quick(folder, out, epochs=2, lr=2e-2, fit_head=False)
    train(config, backbone=tiny_backbone("bert"), progress=Told(), verify=agree)
    return str(out), str(save_tiny(tmp_path / "tiny-bert", "bert"))


def test_explain_shows_a_line_and_bars_for_each_layer(run: Run, trained: tuple[str, str]) -> None:
    file, backbone = trained
    found = run("explain", file, "--backbone", backbone, "--text", "w1 w2 w3", "--text", "w70", "--heads")
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert sum(line.startswith("with the adapter") for line in lines) == 2
    assert sum(line.startswith("without it") for line in lines) == 2
    layers = [line for line in lines if line.startswith(" layer ") and ("█" in line or "▒" in line)]
    assert len(layers) == 4
    assert any("change of the attention output on this text" in line for line in lines)
    heads = [line.split() for line in lines if line.startswith(" head ")]
    assert heads == [["head", "0", "1", "2", "3"]] * 6


def test_explain_as_json(run: Run, trained: tuple[str, str]) -> None:
    file, backbone = trained
    found = run("explain", file, "--backbone", backbone, "--text", "w1 w2", "--label", "high", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    (one,) = told["texts"]
    assert (told["task"], told["method"], told["kind"]) == ("demo", "hadamard", "single_label")
    assert (one["text"], one["label"]) == ("w1 w2", "high")
    assert [(effect["stack"], effect["layer"]) for effect in one["effects"]] == [
        ("encoder", 0),
        ("encoder", 1),
    ]
    for effect in one["effects"]:
        assert effect["lost"] == pytest.approx(one["whole"]["margin"] - effect["off"]["margin"])
    assert len(one["attention_heads"][0]["change"]) == 4


def test_the_longest_bar_is_the_largest_effect() -> None:
    assert _bars([0.5, -1.0, 0.0]) == ["█" * (BAR // 2), "▒" * BAR, ""]
    assert _bars([0.0, 0.0]) == ["", ""]


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (
            ["--text", "a", "--text", "b", "--text-pair", "c"],
            2,
            "2 --text and 1 --text-pair: give one for each",
        ),
        (["--text", "a", "--choice", "b"], 2, "--choice: give 2 different ones or more"),
        (["--text", "a", "--choice", "b", "--choice", "b"], 2, "--choice: give 2 different ones or more"),
        (["--text", "a", "--text-pair", "b", "--choice", "c"], 2, "a task reads one of the two"),
        (["--text", "a", "--label", "none"], 1, "--label is 'none'; allowed: low, middle, high"),
        (["--text", "a", "--text-pair", "b"], 1, "leave --text-pair out"),
    ],
)
def test_explain_refuses_with_a_reason(
    run: Run, trained: tuple[str, str], options: list[str], status: int, says: str
) -> None:
    file, backbone = trained
    found = run("explain", file, "--backbone", backbone, *options)
    assert found.exit_code == status
    assert says in " ".join(found.stderr.replace("│", " ").split())
    assert "Traceback" not in found.output
