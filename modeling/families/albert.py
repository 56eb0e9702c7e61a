"""ALBERT: BERT's layout, narrow embeddings, and one set of weights for many layers.

The library runs the same module in every layer of a group. So that a layer can be adapted by itself, each
gets module objects of its own here, which hold the very same parameters: no memory, the same function.
"""

from __future__ import annotations

from copy import copy, deepcopy
from itertools import chain
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from ..sites import Site as S
from ..sites import Tap
from .base import FAMILIES, Family, SiteRow, layout


def _taps(config: PreTrainedConfig) -> list[Tap]:
    h, f, e = config.hidden_size, config.intermediate_size, config.embedding_size
    rows: list[SiteRow] = [
        (S.ATTN_Q, "attention.query", "out", h, h),
        (S.ATTN_K, "attention.key", "out", h, h),
        (S.ATTN_V, "attention.value", "out", h, h),
        (S.ATTN_CONTEXT, "attention.dense", "in", h, h),
        (S.ATTN_OUT, "attention.dense", "out", h, h),
        (S.ATTN_NORM, "attention.LayerNorm", "out", h, h),
        (S.FFN_UP, "ffn", "out", h, f),
        (S.FFN_INNER, "ffn_output", "in", f, h),
        (S.FFN_OUT, "ffn_output", "out", f, h),
        (S.FFN_NORM, "full_layer_layer_norm", "out", h, h),
    ]
    inner = config.inner_group_num
    paths = [
        f"encoder.albert_layer_groups.{i}.albert_layers.{j}"
        for i in range(config.num_hidden_layers)
        for j in range(inner)
    ]
    embed = Tap(S.EMBED, "encoder", 0, "embeddings.word_embeddings", "out", config.vocab_size, e)
    return [embed, *(tap for i, path in enumerate(paths) for tap in layout("encoder", i, path, rows))]


def _one_module_per_layer(model: Any) -> None:
    """Give every layer module objects of its own around the parameters that it shares."""
    encoder = model.encoder
    layers, groups = encoder.config.num_hidden_layers, encoder.config.num_hidden_groups
    shared = [encoder.albert_layer_groups[int(i / (layers / groups))] for i in range(layers)]
    encoder.albert_layer_groups = nn.ModuleList(map(_around_the_same_parameters, shared))
    encoder.config = copy(encoder.config)  # the encoder reads nothing in it but these numbers
    encoder.config.num_hidden_groups = layers


def _around_the_same_parameters(module: nn.Module) -> nn.Module:
    """Copies of the module objects alone: not of parameters, nor of the config, which the library changes."""
    configs = (part.config for part in module.modules() if hasattr(part, "config"))
    kept = chain(module.parameters(), configs)
    return deepcopy(module, {id(thing): thing for thing in kept})


FAMILIES.add(
    Family(
        name="albert",
        taps=_taps,
        first_position=lambda config: 0,
        max_tokens=lambda config: int(config.max_position_embeddings),
        poolings=("mean", "first"),
        prepare=_one_module_per_layer,
    )
)
