"""A backbone that cannot be used is one sentence and status 1, whatever the command: never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.folders import CONFIG, WEIGHTS, save_backbone, set_config, without_tokenizer
from tests.unit.trunkline.conftest import Run

LABELS = ("low", "middle", "high")  # of the recorded file
RECORDED = Path(__file__).parents[2] / "recorded" / "files" / "hadamard.safetensors"


def _cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:5000])


def _pointer(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (without_tokenizer, "there is no tokenizer"),
    "cut off": (_cut, "model.safetensors (5,000 bytes) is cut off"),
    "a pointer": (_pointer, "the pointer of a large-file store"),
    "another size": (lambda folder: set_config(folder, vocab_size=90), "(vocab_size 90)"),
    "no config": (lambda folder: (folder / CONFIG).unlink(), "there is no config.json"),
    "a wrong type": (lambda folder: set_config(folder, hidden_size="32"), "config.json is not sound"),
    "another family": (lambda folder: set_config(folder, model_type="gpt2"), "'gpt2' is not supported"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", ["train", "check", "evaluate", "methods"])
def test_a_damaged_folder_is_one_sentence(run: Run, tmp_path: Path, command: str, damage: str) -> None:
    folder, (spoil, told) = save_backbone(tmp_path / "model", "bert"), DAMAGES[damage]
    spoil(folder)
    rows = tmp_path / "train.jsonl"
    rows.write_text("".join(json.dumps({"text": f"w{i}", "label": LABELS[i % 3]}) + "\n" for i in range(40)))
    data, backbone = ["--data", str(rows)], ["--backbone", str(folder)]
    arguments = {
        "train": [*data, "--task", "t", "--out", str(tmp_path / "t.safetensors"), *backbone],
        "check": [str(RECORDED), *backbone],
        "evaluate": [str(RECORDED), *data, *backbone],
        "methods": backbone,
    }
    done = run(command, *arguments[command])
    if command == "methods" and damage in ("no tokenizer", "cut off", "a pointer", "another size"):
        assert done.exit_code == 0, "it reads config.json alone"
        return
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert told in line
