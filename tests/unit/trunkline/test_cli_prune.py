"""`trunkline prune` and what `evaluate` tells of text-to-text: tables, JSON, and refusals with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from modeling import Backbone
from tests.integration_training.conftest import save_tiny
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, quick, write_task, write_text_task
from tests.unit.trunkline.conftest import Run
from training import prune as pruning
from training.recipe import train

Trained = Callable[..., tuple[str, str, str]]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A file on a tiny backbone on disk: its path, its data, its backbone. Files are not checked again."""
    monkeypatch.setattr(pruning, "prune_file", partial(pruning.prune_file, verify=agree))

    def build(method: str = "hadamard", model_type: str = "bert") -> tuple[str, str, str]:
        text = model_type == "t5"
        folder = (write_text_task if text else lambda path: write_task(path, "single_sentence"))(
            tmp_path / "d"
        )
        form = {"form": "text-to-text", "targets": "words"} if text else {}
        backbone: Backbone = tiny_backbone(model_type)
        out, directory = tmp_path / "demo.safetensors", save_tiny(tmp_path / f"tiny-{model_type}", model_type)
        config = quick(folder, out, method=method, epochs=1, head_epochs=1, **form)
        train(config, backbone=backbone, progress=Told(), verify=agree)
        return str(out), str(folder), str(directory)

    return build


def test_prune_shows_every_number_of_layers_and_writes_the_smaller_file(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    file, data, backbone = trained()
    found = run(
        "prune", file, "--data", data, "--backbone", backbone, "--keep", "1", "--report", str(tmp_path)
    )
    assert found.exit_code == 0, found.output
    lines = [line.split() for line in found.stdout.splitlines() if line.strip()]
    assert ["kept", "1", "of", "2", "layers:"] in [line[:5] for line in lines]
    assert [line[0] for line in lines if line[0] in "12"] == ["2", "1"]
    assert (tmp_path / "demo.pruned.safetensors").is_file()
    assert (tmp_path / "demo-layers.png").is_file()
    assert "--method-config 'layers=[" in found.stderr


def test_prune_as_json(run: Run, trained: Trained, tmp_path: Path) -> None:
    file, data, backbone = trained("bitfit")
    out = str(tmp_path / "small.safetensors")
    found = run("prune", file, "--data", data, "--backbone", backbone, "--out", out, "--json", "--quiet")
    told = json.loads(found.stdout)
    assert told["file"]["path"] == out
    assert [len(score["layers"]) for score in told["scores"]] == [2, 1]
    assert told["picture"] is None


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("hadamard", ["--keep", "3"], "keep is 3; the adapter has 2 layers"),
        ("lora", [], "method lora: layers are ranked"),
    ],
)
def test_prune_refuses_with_a_reason(
    run: Run, trained: Trained, method: str, options: list[str], says: str
) -> None:
    file, data, backbone = trained(method)
    found = run("prune", file, "--data", data, "--backbone", backbone, *options)
    assert found.exit_code == 2
    assert says in " ".join(found.stderr.replace("│", " ").split())
    assert "Traceback" not in found.output


def test_prune_of_a_broken_file_is_one_sentence(run: Run, trained: Trained) -> None:
    file, data, backbone = trained()
    Path(file).write_bytes(b"nothing")
    found = run("prune", file, "--data", data, "--backbone", backbone)
    assert found.exit_code == 1
    assert found.stderr.startswith("error: demo.safetensors")


def test_evaluate_shows_what_was_generated(run: Run, trained: Trained) -> None:
    file, data, backbone = trained("lora", "t5")
    found = run("evaluate", file, "--data", data, "--backbone", backbone, "--generate", "--rows")
    assert found.exit_code == 0, found.output
    assert "generated freely" in found.stdout
    assert "text: w" in found.stdout
    assert run("evaluate", file, "--data", data, "--split-rule", "quarter").exit_code == 2
