"""Which files fit a backbone: those made on the same function, whatever else its config says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from adapters_store import BackboneRef, Manifest
from modeling import Backbone, load_backbone
from proof.candidate import backbone_failures, read_file
from tests.folders import set_config

RECORDED = Path(__file__).parents[2] / "recorded"
EARLIER = read_file(RECORDED / "files" / "hadamard.safetensors").manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the backbone on which the recorded file was made, before the digest was of the function."""
    return shutil.copytree(RECORDED / "backbones" / "bert", tmp_path / "bert")


def made_on(backbone: Backbone) -> Manifest:
    """The manifest of a file that is written today."""
    reference = BackboneRef(
        family=backbone.family.name,
        name=backbone.name,
        config_digest=backbone.config_digest,
        weights_digest=backbone.weights_digest,
    )
    return EARLIER.model_copy(update={"backbone": reference})


def refused_for(manifest: Manifest, backbone: Backbone) -> list[str]:
    return [failure.field.rpartition(".")[2] for failure in backbone_failures(manifest, backbone)]


def test_a_file_with_the_earlier_digest_is_accepted(folder: Path) -> None:
    backbone = load_backbone(str(folder))
    assert EARLIER.backbone.config_digest == backbone.earlier_config_digest != backbone.config_digest
    assert refused_for(EARLIER, backbone) == []
    assert refused_for(made_on(backbone), backbone) == []


@pytest.mark.parametrize(
    "values",
    [
        {"id2label": {"0": "no", "1": "yes", "2": "perhaps"}, "label2id": {"no": 0, "yes": 1, "perhaps": 2}},
        {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.3, "classifier_dropout": 0.5},
        {
            "use_cache": False,
            "architectures": ["BertForSequenceClassification"],
            "problem_type": "regression",
        },
        {"_name_or_path": "elsewhere", "transformers_version": "4.1", "torch_dtype": "float16"},
    ],
)
def test_what_is_not_computed_with_refuses_no_file(folder: Path, values: dict[str, Any]) -> None:
    manifest = made_on(load_backbone(str(folder)))
    set_config(folder, **values)
    assert refused_for(manifest, load_backbone(str(folder))) == []


@pytest.mark.parametrize(
    "values", [{"layer_norm_eps": 1e-5}, {"hidden_act": "relu"}, {"num_attention_heads": 4}]
)
def test_what_is_computed_with_refuses_every_file(folder: Path, values: dict[str, Any]) -> None:
    manifest = made_on(load_backbone(str(folder)))
    set_config(folder, **values)
    changed = load_backbone(str(folder))
    assert refused_for(manifest, changed) == ["config_digest"]
    assert refused_for(EARLIER, changed) == ["config_digest"]
