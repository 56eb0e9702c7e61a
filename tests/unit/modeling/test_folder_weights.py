"""Weights of a backbone's folder: whole and those of its config, or refused in a sentence; never random."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modeling import BackboneError, load_backbone
from tests.folders import CONFIG, WEIGHTS, Weights, save_backbone, set_config, set_weights
from tests.tiny import CONFIGS, hidden_of, tiny_backbone

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 90868376\n"
PICKLE = "pytorch_model.bin"


def refusal(folder: Path) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(folder))
    told = str(caught.value)
    assert told.startswith(f"backbone {str(folder)!r} cannot be loaded: ")
    assert "\n" not in told
    return told


def same_as_whole(folder: Path, model_type: str) -> bool:
    """Whether it loads as the sound folder of that family does: states and fingerprint."""
    loaded, built = load_backbone(str(folder)), tiny_backbone(model_type)
    encoded = built.text.encode(["w1 w2 w3", ("w4", "w5")])
    assert torch.equal(hidden_of(loaded, encoded), hidden_of(built, encoded))
    return (loaded.config_digest, loaded.weights_digest) == (built.config_digest, built.weights_digest)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (POINTER, "the pointer of a large-file store"),
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"Entry not found", "has no such file"),
        (b"PK\x03\x04 and more", "is a pickle of PyTorch: rename it to pytorch_model.bin"),
        (b"\x10\x00 and more", "cut off, or no safetensors file"),
    ],
)
@pytest.mark.parametrize("name", [WEIGHTS, PICKLE, "model-00002-of-00006.safetensors"])
def test_something_in_place_of_weights_is_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    options = {"max_shard_size": "20KB"} if "-of-" in name else {}
    save_backbone(tmp_path, "bert", **options)
    if name == PICKLE:
        (tmp_path / WEIGHTS).unlink()
        told = "cannot be read" if b"and more" in content else told
    (tmp_path / name).write_bytes(content)
    assert told in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("model_type", ["bert", "t5"])
def test_a_file_that_was_cut_off_is_never_read(tmp_path: Path, model_type: str, share: float) -> None:
    file = save_backbone(tmp_path, model_type) / WEIGHTS
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    assert WEIGHTS in refusal(tmp_path)


def test_a_missing_shard_is_named_and_a_name_outside_of_the_folder_too(tmp_path: Path) -> None:
    save_backbone(tmp_path, "bert", max_shard_size="20KB")
    assert same_as_whole(tmp_path, "bert")
    shard = sorted(tmp_path.glob("model-*"))[1]
    shard.unlink()
    assert f"1 are missing, the first {shard.name}" in refusal(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    assert "the first ../elsewhere.safetensors" in refusal(tmp_path)
    for broken in ("[]", "{}", '{"weight_map": {"a": 1}}', "{"):
        index.write_text(broken)
        assert "model.safetensors.index.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "value"),
    [*((name, float("nan")) for name in CONFIGS), ("bert", float("inf")), ("bert", float("-inf"))],
)
def test_a_weight_that_is_not_finite_is_refused_by_name(
    tmp_path: Path, model_type: str, value: float
) -> None:
    def spoil(weights: Weights) -> Weights:
        weights[sorted(weights)[-1]].view(-1)[-1] = value
        return weights

    set_weights(save_backbone(tmp_path, model_type), spoil)
    assert "holds 1 of" in refusal(tmp_path)


def test_large_weights_are_not_taken_for_infinite_ones(tmp_path: Path) -> None:
    """Their sum overflows float32, each of them is finite, and the norms behind them bring them back."""

    def enlarge(weights: Weights) -> Weights:
        return weights | {"pooler.dense.bias": torch.full((32,), 3e38)}

    set_weights(save_backbone(tmp_path, "bert"), enlarge)
    load_backbone(str(tmp_path))


@pytest.mark.parametrize(
    ("model_type", "field", "value", "told"),
    [
        ("bert", "vocab_size", 90, "is 84 x 32 in the file, and 90 x 32 by config.json (vocab_size 90)"),
        ("distilbert", "vocab_size", 40, "(vocab_size 40)"),
        ("t5", "vocab_size", 100, "(vocab_size 100)"),
        ("bart", "vocab_size", 100, "vocab_size 100"),
        ("bert", "hidden_size", 64, "hidden_size 64"),
        ("roberta", "intermediate_size", 65, "(intermediate_size 65)"),
        ("electra", "max_position_embeddings", 63, "(max_position_embeddings 63)"),
        ("t5", "d_ff", 65, "(d_ff 65)"),
        ("bert", "num_hidden_layers", 3, "lacks weights: encoder.layer.2."),
        ("bert", "num_hidden_layers", 1, "has no place for 16 of the file's weights (encoder.layer.1."),
        ("t5", "num_layers", 1, "has no place for"),
        ("bart", "decoder_layers", 1, "has no place for"),
        ("modernbert", "num_hidden_layers", 1, "`num_hidden_layers` (1) must be equal to the number of"),
        ("t5", "is_gated_act", True, "has no place for 4 of the file's weights (decoder.block.0.layer.2."),
    ],
)
def test_a_config_of_another_model_is_refused(
    tmp_path: Path, model_type: str, field: str, value: Any, told: str
) -> None:
    set_config(save_backbone(tmp_path, model_type), **{field: value})
    assert told in refusal(tmp_path)


def test_an_encoder_alone_is_no_encoder_decoder(tmp_path: Path) -> None:
    def encoder(weights: Weights) -> Weights:
        return {name: tensor for name, tensor in weights.items() if not name.startswith("decoder.")}

    set_weights(save_backbone(tmp_path, "t5"), encoder)
    assert "lacks weights: decoder.block.0." in refusal(tmp_path)


def test_names_in_a_wrapper_are_shown(tmp_path: Path) -> None:
    set_weights(save_backbone(tmp_path, "bert"), lambda w: {f"module.{name}": t for name, t in w.items()})
    assert "has others instead (module.embeddings.LayerNorm.bias)" in refusal(tmp_path)


def _under_a_prefix(weights: Weights) -> Weights:
    return {f"bert.{name}": tensor for name, tensor in weights.items()}


def _with_a_head(weights: Weights) -> Weights:
    head = {"classifier.weight": torch.ones(3, 32), "cls.predictions.bias": torch.ones(84)}
    return _under_a_prefix(weights) | head


def _with_old_buffers(weights: Weights) -> Weights:
    return weights | {"embeddings.position_ids": torch.arange(64)[None]}


def _with_old_names(weights: Weights) -> Weights:
    norm = "embeddings.LayerNorm"
    return {name.replace(f"{norm}.weight", f"{norm}.gamma"): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("change", [_under_a_prefix, _with_a_head, _with_old_buffers, _with_old_names])
def test_heads_prefixes_and_older_names_are_no_matter(
    tmp_path: Path, change: Callable[[Weights], Weights]
) -> None:
    set_weights(save_backbone(tmp_path, "bert"), change)
    assert same_as_whole(tmp_path, "bert")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_the_width_are_read_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    set_weights(save_backbone(tmp_path, "bert"), lambda w: {n: t.to(dtype) for n, t in w.items()})
    loaded, built = load_backbone(str(tmp_path)).model.state_dict(), tiny_backbone("bert").model.state_dict()
    assert all(torch.equal(loaded[name], tensor.to(dtype).float()) for name, tensor in built.items())


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantized_weights_without_a_word_in_the_config(tmp_path: Path, dtype: torch.dtype) -> None:
    def quantize(weights: Weights) -> Weights:
        name = "encoder.layer.0.output.dense.weight"
        return weights | {name: weights[name].to(dtype)}

    set_weights(save_backbone(tmp_path, "bert"), quantize)
    assert "encoder.layer.0.output.dense.weight is of type " in refusal(tmp_path)


@pytest.mark.parametrize("written", [["OwnBertModel"], [], None, "BertModel", [None], ["BertForMaskedLM"]])
def test_who_wrote_it_need_not_be_known(tmp_path: Path, written: object) -> None:
    set_config(save_backbone(tmp_path, "bert"), architectures=written)
    load_backbone(str(tmp_path))


def _as_pickles(folder: Path, parts: int = 1) -> None:
    """The same weights as older releases wrote them."""
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    if parts == 1:
        torch.save(weights, folder / PICKLE)
        return
    where = {name: f"pytorch_model-{i % parts + 1:05}-of-{parts:05}.bin" for i, name in enumerate(weights)}
    for file in set(where.values()):
        torch.save({name: weights[name] for name in weights if where[name] == file}, folder / file)
    (folder / f"{PICKLE}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("model_type", ["bert", "t5", "bart"])
def test_weights_in_a_pickle_are_the_same_weights(tmp_path: Path, model_type: str, parts: int) -> None:
    _as_pickles(save_backbone(tmp_path, model_type), parts)
    assert same_as_whole(tmp_path, model_type)


class _Code:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path, plain: bool) -> None:
    folder, mark = save_backbone(tmp_path / "model", "bert"), tmp_path / "it-was-run"
    _as_pickles(folder)
    if plain:
        (folder / PICKLE).write_bytes(pickle.dumps({"a": _Code(mark)}))
    else:
        torch.save({"a": _Code(mark)}, folder / PICKLE)
    told = refusal(folder)
    assert "holds more than plain tensors, which could run code and is never read" in told
    assert "weights_only" not in told, "no advice to run it"
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tf_model.h5", "tf_model.h5 is TensorFlow weights: convert them"),
        ("flax_model.msgpack", "Flax weights: convert them"),
        ("model.onnx", "an ONNX graph: take the folder that it was exported from"),
        ("onnx/model.onnx", "onnx/model.onnx is an ONNX graph"),
        ("model.q4_0.gguf", "GGUF weights"),
        ("model.ckpt.index", "a TensorFlow checkpoint"),
        ("model.fp16.safetensors", "rename it to model.safetensors"),
        ("weights.pt", "save the model with `save_pretrained`"),
        ("README.md", "Give a folder with config.json, model.safetensors and a tokenizer"),
    ],
)
def test_other_forms_of_weights_are_explained(tmp_path: Path, name: str, told: str) -> None:
    (save_backbone(tmp_path, "bert") / WEIGHTS).unlink()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"something")
    assert "there are no weights (model.safetensors); found " in refusal(tmp_path)
    assert told in refusal(tmp_path)


def test_a_link_to_nothing_is_no_reason_to_read_something_else(tmp_path: Path) -> None:
    _as_pickles(save_backbone(tmp_path, "bert"))
    (tmp_path / WEIGHTS).symlink_to(tmp_path / "gone")
    assert "model.safetensors is a link to nothing" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("num_attention_heads", 5, "config.json is not sound"),
        ("num_attention_heads", -1, "its first pass fails"),
        ("hidden_act", "no-such-activation", "config.json is not sound: KeyError: 'no-such-activation'"),
        ("hidden_size", "32", "config.json is not sound: Validation error for field 'hidden_size'"),
        ("layer_norm_eps", float("nan"), "gives values that are not finite"),
        ("is_decoder", True, "config.json says is_decoder"),
        ("auto_map", {"AutoModel": "own.py--Own"}, "code of its own (own.py--Own), which is never run"),
        ("quantization_config", {"quant_method": "bitsandbytes"}, "its weights are quantized"),
        ("position_embedding_type", "relative_key", "says position_embedding_type 'relative_key', which"),
        (
            "model_type",
            "roberta",
            "says model_type 'roberta', and BertModel, which wrote it, is of type 'bert'",
        ),
        ("model_type", "electra", "BertModel, which wrote it, is of type 'bert'"),
        ("architectures", ["GPT2Model"], "GPT2Model, which wrote it, is of type 'gpt2'"),
    ],
)
def test_a_config_that_cannot_be_run_is_refused(tmp_path: Path, field: str, value: Any, told: str) -> None:
    set_config(save_backbone(tmp_path, "bert"), **{field: value})
    assert told in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "config.json cannot be read: "),
        ("[]", "config.json holds no JSON object"),
        ("{}", "config.json has no model_type"),
        ('{"model_type": 3}', "config.json has no model_type"),
        (
            '{"model_type": "gpt2"}',
            "model type 'gpt2' is not supported: unknown family 'gpt2'; known: albert, ",
        ),
        ("", "config.json is empty"),
        (POINTER.decode(), "config.json is the pointer of a large-file store"),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, content: str, told: str) -> None:
    (save_backbone(tmp_path, "bert") / CONFIG).write_text(content)
    assert told in refusal(tmp_path)
