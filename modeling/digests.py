"""Fingerprints of a backbone: of what its config says of the forward pass, and of its weights.

Two folders with the same digests compute the same function, whatever else their configs say: names of
labels, dropout, caches, where a file came from. docs/decisions/0028-config-digest.md says why it is a list of
what counts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from .families import Family

# Declared by configs of our families and without a part in what we compute: how they are trained, made or
# cached, and heads of other tasks. A family that reads one of them says so in its `reads`.
_IDLE = frozenset(
    {
        *(
            "bos_token_id",
            "cls_token_id",
            "eos_token_id",
            "forced_eos_token_id",
            "pad_token_id",
            "sep_token_id",
        ),
        *(
            "attention_dropout",
            "attention_probs_dropout_prob",
            "activation_dropout",
            "dropout",
            "dropout_rate",
        ),
        *("embedding_dropout", "hidden_dropout_prob", "mlp_dropout", "pooler_dropout", "qa_dropout"),
        *("encoder_layerdrop", "decoder_layerdrop", "seq_classif_dropout", "decoder_start_token_id"),
        *("initializer_range", "initializer_factor", "initializer_cutoff_factor", "init_std"),
        *("classifier_activation", "classifier_bias", "classifier_dropout", "classifier_dropout_prob"),
        *("classifier_pooling", "pooler_hidden_act", "decoder_bias", "legacy", "sinusoidal_pos_embds"),
        *("summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"),
        *("deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index", "reference_compile"),
        *("add_cross_attention", "is_decoder", "tie_word_embeddings", "use_cache"),
        # Read in other words: see `derived` of the families, and what T5 makes of its own.
        *("feed_forward_proj", "local_attention", "max_relative_positions", "pos_att_type"),
    }
)
# What a config says of its origin or of how it runs: all that the earlier digest left out.
_NOT_ARCHITECTURE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}


def config_digest(config: PreTrainedConfig, family: Family) -> str:
    """Digest of what the forward pass reads in a config, and of what we derive from it for the pass.

    A field that a later library declares counts where it is not at its default: not to know it must refuse.
    """
    read = {name: getattr(config, name, None) for name in family.reads}
    ours: dict[str, Any] = {"family": family.name, "first_position": family.first_position(config)}
    if family.seq2seq is not None:
        ours |= {"start": start_id(config), "end": config.eos_token_id}
    return _digest([ours, read, dict(family.derived(config)), unknown_fields(config, family)])


def earlier_config_digest(config: PreTrainedConfig) -> str:
    """What files hold that were written before: of everything that a config says and its class does not."""
    return _digest({k: v for k, v in config.to_diff_dict().items() if k not in _NOT_ARCHITECTURE})


def start_id(config: PreTrainedConfig) -> int:
    """The token that a decoder begins with."""
    start = getattr(config, "decoder_start_token_id", None)
    return int(config.pad_token_id if start is None else start)


def unknown_fields(config: PreTrainedConfig, family: Family) -> dict[str, Any]:
    """Fields that the config's class declares, nobody here knows, and this config sets to something else."""
    every = {one.name for one in fields(PreTrainedConfig)}
    known = every | _IDLE | set(family.reads)
    plain: PreTrainedConfig = type(config)()
    own = (one.name for one in fields(config) if one.name not in known)
    return {name: value for name in own if (value := getattr(config, name)) != getattr(plain, name)}


def weights_digest(model: nn.Module) -> str:
    """Digest of every weight: name, shape and float32 bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().float().cpu().contiguous()
        digest.update(f"{name}{tuple(values.shape)}".encode())
        digest.update(values.numpy().data)
    return "sha256:" + digest.hexdigest()


def _digest(plain: object) -> str:
    text = json.dumps(plain, sort_keys=True, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
