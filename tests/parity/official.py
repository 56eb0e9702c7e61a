"""The official Compacter code's names for tensors, turned into ours, and the method that each file means."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from modeling import METHODS, Method

_SHARED = re.compile(r"W_(down|up)_(left|right)")
_BLOCK = re.compile(r"(encoder|decoder)\.block\.(\d+)\.layer\.(\d)\.(.+)")
_ADAPTER = re.compile(r"adapter_controller\.adapters\.task\.(down|up)_sampler\.(.+)")
_PARTS = {
    "W_left": "left",
    "W_right": "right",
    "w_left": "left",
    "w_right": "right",
    "W": "weight",
    "b": "bias",
    "weight": "weight",
    "bias": "bias",
    "phm_rule": "rule",
}
_BIASED = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_out"}
_BIASED |= {"wi": "ffn_up", "wi_1": "ffn_up", "wi_0": "ffn_gate", "wo": "ffn_out"}
SMALL: dict[str, Any] = {"bottleneck": 8}
METHODS_OF_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "adapter": ("houlsby", SMALL),
    "pfeiffer_adapter": ("pfeiffer", SMALL),
    "adapter_drop": ("adapter_drop", SMALL | {"first_layer": 1}),
    "adapter_lowrank": ("low_rank_adapter", SMALL),
    "phm_adapter_n4": ("phm", SMALL | {"division": 4}),
    "compacter_n4": ("compacter", SMALL | {"division": 4}),
    "compacter_n8": ("compacter", SMALL | {"division": 8}),
    "compacter_n4_lm_head": ("compacter", SMALL | {"division": 4, "train_output_layer": True}),
    "compacter_n4_rank2": ("compacter", SMALL | {"division": 4, "rank": 2}),
    "compacterpp_n4": ("compacter_pp", SMALL | {"division": 4}),
    "bitfit": ("bitfit", {}),
    "prompt_tuning_r": ("prompt_tuning", {"tokens": 5}),
    "prompt_tuning_t": ("prompt_tuning", {"tokens": 6, "start": "vocabulary"}),
    "compacter": ("compacter", SMALL | {"division": 4}),
    "compacter_n2_shared_w": ("compacter", SMALL | {"division": 2, "share_factors": True}),
}


def method_of(file: str) -> Method:
    """The method that a whole-model file of this name was made with."""
    name, options = METHODS_OF_FILES[file]
    return METHODS[name].from_config(options)


def our_name(official: str) -> str:
    """The name in our adapter file of an official trainable tensor."""
    if official == "prefix_shared":
        return "encoder.embed/prompt"
    if official == "phm_rule":
        return "shared/phm_rule"
    if shared := _SHARED.fullmatch(official):
        return f"shared/{shared[1]}.{shared[2]}"
    if official in ("shared.weight", "lm_head.weight"):
        return f"weights/{official}"
    if official == "lm_head.bias":
        return "decoder.lm_head/shift"
    if official.endswith("final_layer_norm.weight"):
        return f"{official.partition('.')[0]}.final_norm/gain"
    match = _BLOCK.fullmatch(official)
    assert match, official
    stack, layer, sublayer, rest = match[1], match[2], int(match[3]), match[4]
    is_attention = sublayer == 0 or (stack == "decoder" and sublayer == 1)
    place = f"{'cross' if stack == 'decoder' and sublayer == 1 else stack}.{layer}"
    if adapter := _ADAPTER.fullmatch(rest):
        site = "attn_out" if is_attention else "ffn_out"
        return f"{place}.{site}/{adapter[1]}.{_PARTS[adapter[2]]}"
    if rest.startswith("layer_norm"):
        site, part = "attn_norm" if is_attention else "ffn_norm", rest.split(".")[1]
        return f"{place}.{site}/{'gain' if part == 'weight' else 'shift'}"
    module, _ = rest.split(".")[-2:]
    return f"{place}.{_BIASED[module]}/shift"


def ours(tensors: dict[str, Tensor], prefix: str, shapes: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, by our names and in our shapes."""
    named = {our_name(k.removeprefix(prefix)): t for k, t in tensors.items() if k.startswith(prefix)}
    return {name: t.reshape(shapes[name].shape) if name in shapes else t for name, t in named.items()}
