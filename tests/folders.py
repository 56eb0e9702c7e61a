"""Folders of tiny backbones as `save_pretrained` writes them, and ways to change them; for tests only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from tests.tiny import CONFIGS, random_model, tokenizer

WEIGHTS, CONFIG = "model.safetensors", "config.json"
Weights = dict[str, Tensor]


def save_backbone(folder: Path, shape: str | PreTrainedConfig, **options: Any) -> Path:
    """A whole and sound folder of a family's tiny model, or of a config; `options` are of its saving."""
    config = CONFIGS[shape] if isinstance(shape, str) else shape
    random_model(config).save_pretrained(folder, **options)  # type: ignore[operator]  # as the library types it
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(config.model_type), pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder


def set_config(folder: Path, **values: Any) -> None:
    """Fields of config.json with other values."""
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def set_weights(folder: Path, change: Callable[[Weights], Mapping[str, Tensor]]) -> None:
    """The weights as `change` makes them."""
    save_file(dict(change(load_file(folder / WEIGHTS))), folder / WEIGHTS, {"format": "pt"})


def without_tokenizer(folder: Path) -> Path:
    """The folder with no file of a tokenizer."""
    for file in folder.glob("token*"):
        file.unlink()
    return folder
