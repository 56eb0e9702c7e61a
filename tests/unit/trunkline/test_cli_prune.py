"""`trunkline prune` and what `evaluate` tells of text-to-text: tables, JSON, and refusals with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from modeling import Backbone
from proof import ahead
from tests.integration_training.conftest import save_tiny
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, quick, write_task, write_text_task
from tests.unit.trunkline.conftest import Run
from training.run import train

Trained = Callable[..., tuple[str, str, str]]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A file on a tiny backbone on disk: its path, its data, its backbone. Files are not checked again."""
    monkeypatch.setattr(ahead, "checker", lambda: nullcontext(agree))

    def build(method: str = "hadamard", model_type: str = "bert") -> tuple[str, str, str]:
        text = model_type == "t5"
        folder = (write_text_task if text else lambda path: write_task(path, "single_sentence"))(
            tmp_path / "d"
        )
        form = {"form": "text-to-text", "targets": "words"} if text else {}
        backbone: Backbone = tiny_backbone(model_type)
        out, directory = tmp_path / "demo.safetensors", save_tiny(tmp_path / f"tiny-{model_type}", model_type)
        config = quick(folder, out, method=method, epochs=2, lr=2e-2, fit_head=False, **form)
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
    options = ["--backbone", backbone, "--keep", "1", "--out", out, "--json", "--quiet"]
    found = run("prune", file, "--data", data, *options)
    told = json.loads(found.stdout)
    assert told["file"]["path"] == out
    assert [len(score["layers"]) for score in told["scores"]] == [2, 1]
    assert told["picture"] is None


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("hadamard", ["--keep", "3"], "keep is 3; the adapter has 2 layers"),
        ("hadamard", [], "two thirds of 2 layers are 2: nothing would be dropped, so nothing is written"),
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


@pytest.mark.parametrize(("command", "status"), [("evaluate", 1), ("prune", 2)])
def test_a_backbone_that_the_file_only_names_is_never_looked_up(
    run: Run, trained: Trained, monkeypatch: pytest.MonkeyPatch, command: str, status: int
) -> None:
    """The name is whatever the file's writer chose: a hub id in it must not be fetched."""
    file, data, _ = trained()
    for module in ("training.file.evaluate", "training.file.prune"):
        monkeypatch.setattr(f"{module}.load_backbone", lambda name, **_: pytest.fail(f"loads {name}"))
    found = run(command, file, "--data", data)
    assert found.exit_code == status
    told = " ".join(found.stderr.replace("│", " ").split())
    assert "was trained on 'tiny-bert', which is neither minilm nor a directory here" in told
    assert "--backbone" in told


def test_help_says_what_goes_together_on_an_encoder_decoder(run: Run) -> None:
    page = " ".join(run("prune", "--help").stdout.split())
    assert "layer i of encoder, decoder and cross-attention are kept or dropped together" in page


def test_evaluate_shows_what_was_generated(run: Run, trained: Trained) -> None:
    file, data, backbone = trained("lora", "t5")
    found = run("evaluate", file, "--data", data, "--backbone", backbone, "--generate", "--rows")
    assert found.exit_code == 0, found.output
    assert "generated freely" in found.stdout
    assert "text: w" in found.stdout
    assert run("evaluate", file, "--data", data, "--split-rule", "quarter").exit_code == 2
