"""The config's digest is the forward pass: for every field of every family, changed in config.json.

Either the folder is refused, or what it computes and its digest change together, or neither does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, PreTrainedConfig

from modeling import Backbone, BackboneError, digests, load_backbone
from modeling.backbone import family_of
from tests.folders import CONFIG, save_backbone
from tests.tiny import CONFIGS, VARIANTS, hidden_of, pooled_states, random_texts, target_logits

TEXTS = random_texts(5, seed=3, max_words=28)
SHAPES = CONFIGS | {
    name: VARIANTS[name]
    for name in (
        "deberta with absolute positions and types",
        "deberta-v2 with a convolution, types and narrow embeddings",
        "t5 v1.1",
    )
}
# Fields that configs of the hub have and no class declares; none has a part in what is computed.
FOREIGN = {
    "_num_labels": 3,
    "directionality": "bidi",
    "finetuning_task": "mnli",
    "gradient_checkpointing": True,
    "label2id": {"a": 0, "b": 1, "c": 2},
    "n_positions": 512,
    "output_past": True,
    "pooler_fc_size": 768,
    "task_specific_params": {"summarization": {"num_beams": 4}},
    "transformers_version": "4.8.2",
}
# Pairs of values that say the same in two ways, which a digest of values tells apart: it refuses, to be safe.
NONSENSE = {("type_vocab_size", -1)}


def others(value: Any) -> list[Any]:
    """A few other values of a field's kind, sound and absurd ones."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 0, None]
    if isinstance(value, float):
        return [value * 0.5 + 0.05, 1]
    if isinstance(value, str):
        return ["relu", "gated-gelu"]
    if isinstance(value, list):
        return [value[:-1], value[::-1]]
    if isinstance(value, dict) and value and isinstance(next(iter(value.values())), dict):
        return [{**value, key: {**one, "rope_theta": 77.0}} for key, one in value.items()]
    if isinstance(value, dict):
        return [{"0": "a", "1": "b", "2": "c"}]
    return [1, "relu", True]


def computed(backbone: Backbone) -> list[Tensor]:
    """All that is read of a backbone: states, poolings, a decoder's logits, and how long texts may be."""
    encoded = backbone.text.encode(TEXTS)
    batch = backbone.pack(encoded)
    with torch.no_grad():
        found = [hidden_of(backbone, encoded), torch.tensor(backbone.max_tokens)]
        found += [pooled_states(backbone, batch, pooling) for pooling in backbone.poolings]
        if backbone.is_encoder_decoder:
            found += target_logits(backbone, batch, backbone.label_ids(["w1 w2 w3"] * len(TEXTS)))
    return found


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_digest_changes_with_the_forward_pass_and_with_nothing_else(shape: str, tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, SHAPES[shape])
    plain = json.loads((folder / CONFIG).read_text())
    whole = load_backbone(str(folder))
    wanted, matters, wrong = computed(whole), set(), []
    every = SHAPES[shape].to_dict() | plain
    del every["model_type"]
    changes = [(name, other) for name, value in every.items() for other in others(value)]
    for name, value in [*changes, *FOREIGN.items()]:
        (folder / CONFIG).write_text(json.dumps(plain | {name: value}))
        try:
            changed = load_backbone(str(folder))
        except BackboneError:
            matters.add(name)
            continue
        is_same = same(computed(changed), wanted)
        matters |= set() if is_same else {name}
        if is_same != (changed.config_digest == whole.config_digest) and (name, value) not in NONSENSE:
            wrong.append(f"{name} = {value!r}: {'the same' if is_same else 'another'} function")
    assert not wrong
    assert {name for name in whole.family.reads if name in every} <= matters


@pytest.mark.parametrize("shape", SHAPES)
def test_every_field_that_a_class_declares_is_known(shape: str) -> None:
    """A release of the library that declares more must be looked at: until then such a field counts."""
    config, family = SHAPES[shape], family_of(SHAPES[shape])
    declared = {one.name for one in fields(config)} - {one.name for one in fields(PreTrainedConfig)}
    assert declared <= digests._IDLE | set(family.reads), "does the forward pass read it? then say so"
    assert digests.unknown_fields(config, family) == {}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_padding_id_counts_where_positions_begin_behind_it(shape: str) -> None:
    """A folder with another one is refused for its tokenizer, so the digest is asked alone."""
    config, family = deepcopy(SHAPES[shape]), family_of(SHAPES[shape])
    config.pad_token_id = config.pad_token_id + 2
    digests_differ = digests.config_digest(config, family) != digests.config_digest(SHAPES[shape], family)
    assert digests_differ == (family.name == "roberta")


def test_a_field_that_nobody_knows_counts_where_it_is_not_at_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, family = BertConfig(), family_of(BertConfig())
    known = digests.config_digest(plain, family)
    assert digests.config_digest(BertConfig(use_cache=False), family) == known
    monkeypatch.setattr(digests, "_IDLE", digests._IDLE - {"use_cache"})
    assert digests.config_digest(plain, family) == known
    assert digests.config_digest(BertConfig(use_cache=False), family) != known
