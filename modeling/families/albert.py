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

from ..sites import Tap
from .base import FAMILIES, Family
from .bert import BERT_READS, PostNorm

_NAMES = PostNorm(
    query="attention.query",
    key="attention.key",
    value="attention.value",
    out="attention.dense",
    attention_norm="attention.LayerNorm",
    up="ffn",
    down="ffn_output",
    norm="full_layer_layer_norm",
)


def _taps(config: PreTrainedConfig) -> list[Tap]:
    layers = range(config.num_hidden_layers)
    groups = [f"encoder.albert_layer_groups.{i}.albert_layers" for i in layers]
    return _NAMES.taps_in(config, (f"{group}.{j}" for group in groups for j in range(config.inner_group_num)))


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


def _layers(model: Any) -> list[nn.Module]:
    return [layer for group in model.encoder.albert_layer_groups for layer in group.albert_layers]


_READS = (*BERT_READS, "embedding_size", "num_hidden_groups", "inner_group_num")
FAMILIES.add(Family("albert", _taps, _READS, prepare=_one_module_per_layer, layers=_layers, fast=True))
