"""What `trunkline inspect` tells of a text-to-text file: what its label strings mean, how a source looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters_store.adapter_file import read_adapter_file, write_adapter_file
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, quick, write_task, write_text_task
from tests.unit.trunkline.conftest import Run
from training.run import train


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-text file whose label strings are the names themselves."""
    folder = tmp_path_factory.mktemp("words")
    out, data = folder / "words.safetensors", write_text_task(folder / "d")
    config = quick(data, out, form="text-to-text", targets="words", method="bitfit", epochs=1)
    train(config, backbone=tiny_backbone("t5"), progress=Told(), verify=agree)
    return out


def renamed(file: Path, out: Path, kept: Any) -> Path:
    """The same file with other words about its labels in the provenance."""
    read = read_adapter_file(file)
    plain = read.manifest.model_dump(mode="json")
    plain["provenance"]["config"]["text_to_text"] = kept
    write_adapter_file(out, type(read.manifest).model_validate(plain), read.tensors)
    return out


def line_of(run: Run, file: Path, name: str) -> str:
    found = run("inspect", str(file))
    assert found.exit_code == 0, found.output
    return next((line for line in found.stdout.splitlines() if line.split()[:1] == [name]), "")


def test_label_strings_are_shown_with_what_they_mean(run: Run, words: Path, tmp_path: Path) -> None:
    kept = read_adapter_file(words).manifest.provenance.config["text_to_text"]
    file = renamed(words, tmp_path / "a.safetensors", kept | {"names": ["low", "w30", "high"]})
    assert line_of(run, file, "labels").split(maxsplit=1)[1] == "w1 = low, w30, w60 = high"
    told = json.loads(run("inspect", str(file), "--json").stdout)
    assert told["label_names"] == {"w1": "low", "w60": "high"}
    assert told["manifest"]["head"]["labels"] == ["w1", "w30", "w60"]


@pytest.mark.parametrize("kept", [None, 7, {"names": None}, {"names": ["one"]}, {"names": []}])
def test_a_file_that_keeps_no_names_is_shown_all_the_same(
    run: Run, words: Path, tmp_path: Path, kept: Any
) -> None:
    """Numbers have no names, and a file may be written by anybody."""
    file = renamed(words, tmp_path / "a.safetensors", kept)
    assert line_of(run, file, "labels").split(maxsplit=1)[1] == "w1, w30, w60"


def test_a_source_shows_the_format(run: Run, words: Path) -> None:
    shown = line_of(run, words, "example")
    assert "text: w" in shown
    told = json.loads(run("inspect", str(words), "--json").stdout)
    texts = [probe["text"] for probe in told["manifest"]["probes"]]
    assert told["example"] in texts
    assert len(told["example"]) == min(map(len, texts))
    assert told["label_names"] == {}


def test_a_task_with_a_head_has_no_source(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "head.safetensors"
    data = write_task(tmp_path / "d", "single_sentence")
    train(quick(data, out, epochs=1), backbone=tiny_backbone("bert"), progress=Told(), verify=agree)
    assert line_of(run, out, "example") == ""
    assert json.loads(run("inspect", str(out), "--json").stdout)["example"] is None


def test_digits_keep_their_names_in_the_file(tmp_path: Path) -> None:
    """What `inspect` reads is what training writes."""
    from training.data.load import load_data
    from training.file.publish import TextForm
    from training.settings.config import TrainConfig
    from training.tasks.as_strings import AsStrings

    data = load_data(TrainConfig(data=str(write_text_task(tmp_path / "d")), task="a", form="text-to-text"))
    assert isinstance(data.task, AsStrings)
    assert data.reading.formatter is not None
    kept = TextForm(data.reading.formatter, *data.task.string_form()).to_config()
    assert data.task.labels == ("0", "1", "2")
    assert kept["text_to_text"]["names"] == ["w1", "w30", "w60"]
