"""Folders of other kinds: the transformer of a sentence-transformers folder is read, the rest explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modeling import BackboneError, load_backbone
from modeling.counts import architecture
from tests.folders import CONFIG, save_backbone, set_config
from tests.tiny import tiny_backbone

MODULES = "modules.json"


def refusal(folder: Path | str) -> str:
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sentence_folder(folder: Path, path: str, kind: str = "Transformer") -> Path:
    """As sentence-transformers saves a BERT model with mean pooling, its files in `path`."""
    save_backbone(folder / path, "bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / CONFIG).write_text('{"pooling_mode_mean_tokens": true}')
    names = [("", path, kind), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    types = [{"name": n, "path": p, "type": f"sentence_transformers.models.{t}"} for n, p, t in names]
    (folder / MODULES).write_text(json.dumps(types))
    return folder


@pytest.mark.parametrize("path", ["", "0_Transformer", "0_BERT"])
def test_the_transformer_of_a_sentence_transformers_folder(tmp_path: Path, path: str) -> None:
    folder = sentence_folder(tmp_path / "Sentences", path)
    if path:
        (folder / CONFIG).write_text('{"__version__": "0.2.5"}')  # as old releases have it beside the modules
    loaded, plain = load_backbone(str(folder)), tiny_backbone("bert")
    assert loaded.name == "sentences"
    assert (loaded.config_digest, loaded.weights_digest) == (plain.config_digest, plain.weights_digest)
    assert architecture(str(folder)).hidden_size == plain.hidden_size


@pytest.mark.parametrize("path", ["../elsewhere", "/elsewhere", "0/../../elsewhere"])
def test_a_module_outside_of_its_folder_is_not_read(tmp_path: Path, path: str) -> None:
    save_backbone(tmp_path / "elsewhere", "bert")
    folder = sentence_folder(tmp_path / "folder", "")
    (folder / MODULES).write_text(json.dumps([{"type": "Transformer", "path": path}]))
    assert "which is outside of the folder" in refusal(folder)


def test_sentence_transformers_without_a_transformer(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, "0_WordEmbeddings", "WordEmbeddings")
    (folder / "0_WordEmbeddings" / CONFIG).unlink()
    told = refusal(folder)
    assert "begins with sentence_transformers.models.WordEmbeddings in '0_WordEmbeddings'" in told
    for broken in ("[]", "{}", "[1]", "{"):
        (folder / MODULES).write_text(broken)
        assert "modules.json lists no modules of sentence-transformers" in refusal(folder)


@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_of_peft_is_not_the_model(tmp_path: Path, whole: bool) -> None:
    """Also where a model lies beside it: PEFT's library would load another one in its place, or nothing."""
    folder = save_backbone(tmp_path, "bert") if whole else tmp_path
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "bert-base-uncased"}')
    told = refusal(folder)
    assert "holds a PEFT adapter (adapter_config.json) of bert-base-uncased: give the base model" in told


def test_what_is_no_folder_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "found nothing: the folder is empty" in refusal(tmp_path / "empty")
    file = save_backbone(tmp_path / "whole", "bert") / "model.safetensors"
    assert f"it is a file: give the folder that holds it ({tmp_path / 'whole'})" in refusal(file)
    (tmp_path / "whole" / CONFIG).unlink()
    assert "there is no config.json; found model.safetensors, tokenizer.json" in refusal(tmp_path / "whole")
    for name in (str(tmp_path / "gone"), "./gone", ""):
        assert "there is no such directory. Give 'minilm', a local directory" in refusal(name)


@pytest.mark.parametrize("name", ["no/such-model", "such-model", "a b c", "a\0b"])
def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "it is no directory here, and the hub does not give it" in refusal(name)


@pytest.mark.parametrize(
    "values",
    [
        {"chunk_size_feed_forward": 7},
        {"return_dict": False},
        {"output_attentions": True},
        {"output_hidden_states": True},
        {"use_cache": False},
        {"torch_dtype": "float16"},
    ],
)
@pytest.mark.parametrize("model_type", ["bert", "deberta-v2", "bart"])
def test_how_the_library_was_asked_to_answer_is_no_matter(
    tmp_path: Path, model_type: str, values: dict[str, object]
) -> None:
    set_config(save_backbone(tmp_path, model_type), **values)
    loaded, plain = load_backbone(str(tmp_path)), tiny_backbone(model_type)
    assert (loaded.config_digest, loaded.weights_digest) == (plain.config_digest, plain.weights_digest)
