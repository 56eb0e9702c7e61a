"""Exact parameter counts of every method on an architecture, without weights: built on the `meta` device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    ElectraConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from .backbone import family_of
from .errors import BackboneError
from .methods import METHODS, Method
from .tapped import frozen_module

BYTES_PER_FLOAT32 = 4
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
_XLM_R = {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1}
_ELECTRA_BASE = {
    "hidden_size": 768,
    "embedding_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}

# Published sizes; the library's defaults where nothing is given.
ARCHITECTURES: Mapping[str, Callable[[], PreTrainedConfig]] = {
    "minilm": lambda: BertConfig(**_MINILM),
    "bert-base": BertConfig,
    "bert-base-cased": lambda: BertConfig(vocab_size=28996),
    "bert-large": lambda: BertConfig(**_LARGE),
    "bert-large-cased": lambda: BertConfig(**_LARGE, vocab_size=28996),
    "roberta-base": lambda: RobertaConfig(**_ROBERTA),
    "roberta-large": lambda: RobertaConfig(**_ROBERTA, **_LARGE),
    "xlm-roberta-base": lambda: RobertaConfig(**_XLM_R),
    "electra-small": ElectraConfig,
    "electra-base": lambda: ElectraConfig(**_ELECTRA_BASE),
    "electra-large": lambda: ElectraConfig(**_LARGE, embedding_size=1024),
}


@dataclass(frozen=True, slots=True)
class MethodCount:
    """What a method costs on an architecture: trained parameters without and with a linear head of `labels`
    outputs, the former's share of the backbone, and the bytes of the file's float32 tensors."""

    method: str
    paper: str
    config: dict[str, Any]
    parameters: int
    head_parameters: int
    share_percent: float
    file_bytes: int
    backbone_parameters: int


def architecture(name: str) -> PreTrainedConfig:
    """The config of a named architecture or of a local directory. Raises BackboneError listing the names."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]()
    if Path(name).is_dir():
        try:
            return AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise BackboneError(f"{name}: no usable config.json there: {error}") from error
    raise BackboneError(
        f"unknown architecture {name!r}; known: {', '.join(ARCHITECTURES)}, or a local directory"
    )


def methods_table(name: str, *, labels: int = 2) -> list[MethodCount]:
    """One row for each registered method with its default configuration, by name."""
    config = architecture(name)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    return [count(method.from_config({}), config, model, labels) for _, method in METHODS.items()]


def count(method: Method, config: PreTrainedConfig, model: torch.nn.Module, labels: int = 2) -> MethodCount:
    """Build the method's modules beside `model` (on `meta`: nothing is allocated) and count them."""
    taps = method.select(family_of(config).taps(config))
    with torch.device("meta"):
        built = [method.build(tap, frozen_module(model, tap.path)) for tap in taps]
    parameters = sum(p.numel() for module in built for p in module.parameters())
    head = labels * (int(config.hidden_size) + 1)
    total = sum(p.numel() for p in model.parameters())
    return MethodCount(
        method=method.name,
        paper=method.paper,
        config=method.config(),
        parameters=parameters,
        head_parameters=head,
        share_percent=100 * parameters / total,
        file_bytes=BYTES_PER_FLOAT32 * (parameters + head),
        backbone_parameters=total,
    )
