"""Exact parameter counts of every method on an architecture, without weights: built on the `meta` device."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, PreTrainedConfig

from .adapter import usable_taps
from .backbone import family_of
from .errors import BackboneError, MethodError
from .families.t5 import as_published
from .folder import model_part
from .loading import named, read_config
from .methods import METHODS, Method
from .readouts import DECODER_KIND
from .sites import Tap
from .tapped import frozen_module

BYTES_PER_FLOAT32 = 4
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
_MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
_DEBERTA = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
_DEBERTA_V3 = _DEBERTA | {"position_buckets": 256, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
# T5's vocabulary as its tokenizer has it; the published checkpoints pad it to 32,128 rows.
_T5 = {"vocab_size": 32100}
_T5_BASE = _T5 | {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
_T5_LARGE = _T5 | {"d_model": 1024, "d_ff": 4096, "num_layers": 24, "num_heads": 16}
_T5_V11 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
_BART_BASE = {
    **{f"{stack}_layers": 6 for stack in ("encoder", "decoder")},
    **{f"{stack}_attention_heads": 12 for stack in ("encoder", "decoder")},
    **{f"{stack}_ffn_dim": 3072 for stack in ("encoder", "decoder")},
    "d_model": 768,
}

# Published sizes: the library's model type, and where they are not its defaults.
ARCHITECTURES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "minilm": ("bert", _MINILM),
    "bert-base": ("bert", {}),
    "bert-base-cased": ("bert", {"vocab_size": 28996}),
    "bert-large": ("bert", _LARGE),
    "bert-large-cased": ("bert", _LARGE | {"vocab_size": 28996}),
    "roberta-base": ("roberta", _ROBERTA),
    "roberta-large": ("roberta", _ROBERTA | _LARGE),
    "xlm-roberta-base": ("roberta", _ROBERTA | {"vocab_size": 250002}),
    "electra-small": ("electra", {}),
    "electra-base": ("electra", _BASE | {"embedding_size": 768}),
    "electra-large": ("electra", _LARGE | {"embedding_size": 1024}),
    "deberta-base": ("deberta", _DEBERTA),
    "deberta-large": ("deberta", _DEBERTA | _LARGE),
    "deberta-v2-xlarge": ("deberta-v2", _DEBERTA_V3 | {"conv_kernel_size": 3, "conv_act": "gelu"}),
    "deberta-v3-small": ("deberta-v2", _DEBERTA_V3 | _BASE | {"num_hidden_layers": 6}),
    "deberta-v3-base": ("deberta-v2", _DEBERTA_V3 | _BASE),
    "deberta-v3-large": ("deberta-v2", _DEBERTA_V3 | _LARGE),
    "modernbert-base": ("modernbert", {}),
    "modernbert-large": ("modernbert", _LARGE | {"num_hidden_layers": 28, "intermediate_size": 2624}),
    "distilbert-base": ("distilbert", {}),
    "distilbert-base-cased": ("distilbert", {"vocab_size": 28996}),
    "mpnet-base": ("mpnet", {"max_position_embeddings": 514}),
    "albert-base": ("albert", _BASE),
    "albert-large": ("albert", _LARGE),
    "t5-small": ("t5", _T5),
    "t5-base": ("t5", _T5_BASE),
    "t5-large": ("t5", _T5_LARGE),
    "t5-v1.1-base": ("t5", _T5_BASE | {"d_ff": 2048} | _T5_V11),
    "bart-base": ("bart", _BART_BASE),
    "bart-large": ("bart", {}),
}


@dataclass(frozen=True, slots=True)
class MethodCount:
    """What a method costs on an architecture: trained parameters without the head, and those of the head
    (a linear one of `labels` outputs; on T5, which answers text to text, its output layer, which stays
    frozen); the former's share of the backbone, and the bytes of the file's float32 tensors.

    `problem` says why a method's defaults do not fit this architecture; its numbers are 0 then.
    """

    method: str
    paper: str
    config: dict[str, Any]
    parameters: int
    head_parameters: int
    share_percent: float
    file_bytes: int
    backbone_parameters: int
    problem: str = ""


# Names of published checkpoints of these shapes, without their owner.
ALIASES = {
    "all-minilm-l6-v2": "minilm",
    "bert-base-uncased": "bert-base",
    "bert-large-uncased": "bert-large",
    "electra-small-discriminator": "electra-small",
    "electra-base-discriminator": "electra-base",
    "electra-large-discriminator": "electra-large",
    "distilbert-base-uncased": "distilbert-base",
    "albert-base-v2": "albert-base",
    "albert-large-v2": "albert-large",
    "t5-v1_1-base": "t5-v1.1-base",
}


def architecture(name: str) -> PreTrainedConfig:
    """The config of a named architecture, of a published checkpoint's name (`google-t5/t5-base`), or of a
    local directory. Raises BackboneError listing the names, with the nearest one."""
    plain = name.rsplit("/", 1)[-1].lower()
    known = ALIASES.get(plain, plain)
    if known in ARCHITECTURES and not Path(name).is_dir():
        model_type, sizes = ARCHITECTURES[known]
        return AutoConfig.for_model(model_type, **sizes)
    if Path(name).is_dir():
        with named(name):
            return read_config(str(model_part(Path(name))))
    unversioned = known.replace("-v1-", "-")
    near = [unversioned] if unversioned in ARCHITECTURES else []
    near = near or difflib.get_close_matches(known, [*ARCHITECTURES, *ALIASES], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise BackboneError(
        f"unknown architecture {name!r}; {hint}known: {', '.join(ARCHITECTURES)}, the hub's names of some "
        "of them, or a local directory"
    )


def methods_table(name: str, *, labels: int = 2, form: str | None = None) -> list[MethodCount]:
    """One row for each registered method with its default configuration, by name; `form` as in `count`."""
    config = architecture(name)
    answers_text(config, form)
    model = empty_model(config)
    rows = []
    for method in (kind.from_config({}) for _, kind in METHODS.items()):
        try:
            rows.append(count(method, config, model, labels, form))
        except MethodError as error:
            total = sum(p.numel() for p in model.parameters())
            problem = str(error)
            rows.append(MethodCount(method.name, method.paper, method.config(), 0, 0, 0, 0, total, problem))
    return rows


def empty_model(config: PreTrainedConfig) -> torch.nn.Module:
    """The library's model on `meta`, prepared as its family asks: shapes without memory."""
    family = family_of(config)
    library = AutoModel if family.seq2seq is None else AutoModelForSeq2SeqLM
    with torch.device("meta"):
        model: torch.nn.Module = library.from_config(config)
        if family.name == "t5":
            as_published(model)
        family.prepare(model)
    return model


def answers_text(config: PreTrainedConfig, form: str | None) -> bool:
    """Whether a task is counted as text to text: as `form` says, else T5's are and others have a head.

    Raises BackboneError for text to text on a backbone without a decoder.
    """
    family = family_of(config)
    if form == DECODER_KIND and family.seq2seq is None:
        raise BackboneError(
            f"text to text needs an encoder-decoder (T5 or BART); {family.name} is an encoder"
        )
    return family.name == "t5" if form is None else form == DECODER_KIND


def count(
    method: Method,
    config: PreTrainedConfig,
    model: torch.nn.Module,
    labels: int = 2,
    form: str | None = None,
) -> MethodCount:
    """Build the method's modules beside `model` (on `meta`: nothing is allocated) and count them.

    `form` is "head" or "text_to_text", or None: text to text on T5, a head elsewhere.
    Raises MethodError if the method's options do not fit.
    """
    family = family_of(config)
    text_to_text = answers_text(config, form)
    _check_room(method, config)
    with torch.device("meta"):
        weights = method.weights(model)
        parameters = _body(method, usable_taps(family.taps(config), decodes=text_to_text), model)
    parameters += 0 if weights is None else sum(p.numel() for p in weights.parameters())
    total = sum(p.numel() for p in model.parameters())
    head = labels * (int(config.hidden_size) + 1)
    if text_to_text:
        output_layer: Any = model.get_submodule("lm_head").weight
        name = next(name for name, parameter in model.named_parameters() if parameter is output_layer)
        trained = weights is not None and name in weights.file_tensors()  # then it is counted already
        head = 0 if trained else output_layer.numel()
    return MethodCount(
        method=method.name,
        paper=method.paper,
        config=method.config(),
        parameters=parameters,
        head_parameters=head,
        share_percent=100 * parameters / total,
        file_bytes=BYTES_PER_FLOAT32 * (parameters + (0 if text_to_text else head)),
        backbone_parameters=total,
    )


def _check_room(method: Method, config: PreTrainedConfig) -> None:
    """Raises MethodError for virtual tokens that leave no position for a text."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and method.virtual_tokens >= positions:
        raise MethodError(
            f"method {method.name}: {method.virtual_tokens} virtual tokens; this backbone has {positions} "
            "positions: lower them"
        )


def _body(method: Method, taps: list[Tap], model: torch.nn.Module) -> int:
    """Trained parameters at taps, and shared ones."""
    chosen = method.select(taps)
    shared = method.share(chosen)
    built = [method.build(tap, frozen_module(model, tap.path), shared) for tap in chosen]
    own = sum(p.numel() for module in built for p in module.parameters())
    return own + sum(p.numel() for p in shared.values())
