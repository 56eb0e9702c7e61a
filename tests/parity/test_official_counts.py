"""How many numbers each method of the official Compacter code trains on its tiny T5s, as recorded from it."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import T5Config

from modeling import METHODS
from modeling.counts import count, empty_model
from tests.parity.official import METHODS_OF_FILES

_TINY: dict[str, Any] = {
    "vocab_size": 200,
    "d_model": 64,
    "d_kv": 16,
    "num_heads": 4,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "relative_attention_num_buckets": 8,
}
_SAID = _TINY | {"vocab_size": 50, "d_model": 32, "d_kv": 8, "num_layers": 1, "num_decoder_layers": 1}
CONFIGS = {
    "t5": T5Config(**_TINY, d_ff=128),
    "t5 v1.1": T5Config(**_TINY, d_ff=96, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5 for SAID": T5Config(**_SAID, d_ff=48),
}
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "intrinsic_said": ("intrinsic_said", {"dimension": 120}),
}
RECORDED = [
    ("t5", "adapter", 9536),
    ("t5", "pfeiffer_adapter", 5152),
    ("t5", "adapter_drop", 5152),
    ("t5", "adapter_lowrank", 2496),
    ("t5", "phm_adapter_n4", 4416),
    ("t5", "compacter_n4", 2560),
    ("t5", "compacter_n8", 3008),
    ("t5", "compacter_n4_rank2", 3712),
    ("t5", "compacterpp_n4", 1696),
    ("t5", "compacter_n2_shared_w", 1496),
    ("t5", "compacter_n4_lm_head", 15360),
    ("t5", "prompt_tuning_r", 320),
    ("t5", "prompt_tuning_t", 384),
    ("t5", "bitfit", 3144),
    ("t5", "full", 177472),
    ("t5 v1.1", "compacter_n4", 2560),
    ("t5 v1.1", "adapter", 9536),
    ("t5 v1.1", "bitfit", 3400),
    ("t5 for SAID", "intrinsic_said", 120),
]


@pytest.mark.parametrize(("model", "file", "recorded"), RECORDED)
def test_trained_numbers(model: str, file: str, recorded: int) -> None:
    name, options = (METHODS_OF_FILES | MORE)[file]
    method = METHODS[name].from_config(options)
    assert count(method, CONFIGS[model], empty_model(CONFIGS[model])).parameters == recorded
