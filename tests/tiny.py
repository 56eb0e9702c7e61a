"""Tiny random backbones, one per family, and the embedded weights in other classes; for tests only."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import RobertaProcessing, TemplateProcessing
from torch import Tensor
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
)

from modeling import (
    READOUTS,
    Answer,
    Backbone,
    Encoded,
    HeadSpec,
    PackedBatch,
    decoding,
    kind_of,
    load_backbone,
)
from modeling.families.t5 import as_published

WORDS = [f"w{i}" for i in range(80)]
_SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
# MPNet's library code has padding id 1 in it, whatever the config says.
_SPECIAL_OF = {"mpnet": ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]}
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": len(_SPECIAL) + len(WORDS),
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
_DISENTANGLED: dict[str, Any] = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
}
_V3: dict[str, Any] = _DISENTANGLED | {
    "position_buckets": 8,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
}
_CLS_SEP: dict[str, int] = {"cls_token_id": 1, "bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2}
_MODERN: dict[str, Any] = _SIZES | _CLS_SEP | {"local_attention": 8}
_DISTIL: dict[str, Any] = {
    **{key: _SIZES[key] for key in ("vocab_size", "max_position_embeddings", "initializer_range")},
    "dim": 32,
    "hidden_dim": 64,
    "n_layers": 2,
    "n_heads": 4,
}
_T5: dict[str, Any] = {
    "vocab_size": _SIZES["vocab_size"],
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
_BART: dict[str, Any] = {
    **{key: _SIZES[key] for key in ("vocab_size", "max_position_embeddings", "pad_token_id")},
    **{f"{stack}_layers": 2 for stack in ("encoder", "decoder")},
    **{f"{stack}_attention_heads": 4 for stack in ("encoder", "decoder")},
    **{f"{stack}_ffn_dim": 64 for stack in ("encoder", "decoder")},
    "d_model": 32,
    "init_std": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**_SIZES),
    "roberta": RobertaConfig(**_SIZES, type_vocab_size=1),
    "xlm-roberta": XLMRobertaConfig(**_SIZES, type_vocab_size=1),
    "electra": ElectraConfig(**_SIZES, embedding_size=16),
    "deberta": DebertaConfig(**_SIZES, **_DISENTANGLED),
    "deberta-v2": DebertaV2Config(**_SIZES, **_V3),
    "modernbert": ModernBertConfig(**_MODERN),
    "distilbert": DistilBertConfig(**_DISTIL),
    "mpnet": MPNetConfig(**_SIZES | {"pad_token_id": 1}),
    "albert": AlbertConfig(**_SIZES, embedding_size=16),
    "t5": T5Config(**_T5),
    "bart": BartConfig(**_BART),
}
# Other shapes of a family that run through other code of the library.
VARIANTS: dict[str, PreTrainedConfig] = {
    "deberta with absolute positions and types": DebertaConfig(**_SIZES, type_vocab_size=2),
    "deberta-v2 with a convolution, types and narrow embeddings": DebertaV2Config(
        **_SIZES, **_V3, conv_kernel_size=3, conv_act="gelu", type_vocab_size=2, embedding_size=16
    ),
    "deberta-v2 with projections of its own for positions": DebertaV2Config(**_SIZES, **_DISENTANGLED),
    "modernbert with biases": ModernBertConfig(**_MODERN, norm_bias=True, attention_bias=True, mlp_bias=True),
    "albert with two groups": AlbertConfig(
        **_SIZES | {"num_hidden_layers": 4}, embedding_size=16, num_hidden_groups=2, inner_group_num=2
    ),
    "t5 v1.1": T5Config(**_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}


def tokenizer(model_type: str) -> Tokenizer:
    """A word tokenizer over `WORDS` with the special tokens of the family."""
    special = _SPECIAL_OF.get(model_type, _SPECIAL)
    ids = {token: i for i, token in enumerate([*special, *WORDS])}
    built = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    built.normalizer, built.pre_tokenizer = Lowercase(), Whitespace()
    cls, sep = ("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])
    if model_type == "t5":
        built.post_processor = TemplateProcessing(
            single="$A [SEP]", pair="$A [SEP] $B [SEP]", special_tokens=[sep]
        )
    elif "roberta" in model_type or model_type in ("mpnet", "bart"):
        built.post_processor = RobertaProcessing(sep, cls, add_prefix_space=False)
    else:
        built.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[cls, sep]
        )
    return built


def random_model(config: PreTrainedConfig, seed: int = 0) -> torch.nn.Module:
    """An untouched Hugging Face model with random weights, biases and norms among them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        library = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModel
        model: torch.nn.Module = library.from_config(deepcopy(config))
        if config.model_type == "t5":
            as_published(model)
        for name, parameter in model.named_parameters():
            if name.lower().endswith(("bias", "norm.weight")):  # or a lost one would not show
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def tiny_model(model_type: str, seed: int = 0) -> torch.nn.Module:
    """An untouched tiny model of a family."""
    return random_model(CONFIGS[model_type], seed)


def tiny_backbone(model_type: str, seed: int = 0) -> Backbone:
    """A fresh tiny backbone of a family."""
    return random_backbone(CONFIGS[model_type], seed)


def random_backbone(config: PreTrainedConfig, seed: int = 0) -> Backbone:
    """A fresh backbone around `random_model` of the same config and seed."""
    name, text = f"tiny-{config.model_type}", tokenizer(config.model_type)
    return Backbone(name, random_model(config, seed), deepcopy(config), text, torch.float32)


def random_texts(count: int, seed: int, *, max_words: int = 20) -> list[str | tuple[str, str]]:
    """Texts and pairs of random words; the first is empty."""
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, max_words)))

    return ["", *((text(), text()) if rng.random() < 0.3 else text() for _ in range(count - 1))][:count]


@cache
def minilm() -> Backbone:
    """The embedded backbone, loaded once per process; leave nothing attached to it."""
    return load_backbone("minilm")


State = dict[str, torch.Tensor]
Plain = dict[str, Any]


def minilm_as(model_type: str) -> tuple[Backbone, torch.nn.Module]:
    """The embedded weights in another class of the same function, and an untouched model of that class.

    DistilBERT and MPNet have no token types: there the function is the same for single texts.
    """
    source = load_backbone("minilm")
    plain = {k: v for k, v in source.config.to_dict().items() if k != "model_type"}
    config, state = _MINILM_AS[model_type](plain, dict(source.model.state_dict()))
    models = []
    for _ in range(2):
        model = AutoModel.from_config(deepcopy(config))
        model.load_state_dict(state)
        models.append(model.eval())
    tokens = source.text._tokenizer
    return Backbone(f"minilm-{model_type}", models[0], config, tokens, torch.float32), models[1]


def _as_roberta(plain: Plain, state: State) -> tuple[PreTrainedConfig, State]:
    """Its positions start after the padding id, so one row stands in front."""
    _shift_positions(state, 1)
    return RobertaConfig(**plain | {"max_position_embeddings": 513}), state


def _as_electra(plain: Plain, state: State) -> tuple[PreTrainedConfig, State]:
    return ElectraConfig(**plain, embedding_size=plain["hidden_size"]), _without(state, "pooler.")


def _as_deberta(plain: Plain, state: State) -> tuple[PreTrainedConfig, State]:
    """Query, key and value interleaved head by head; the key bias drops out of the softmax."""
    state, heads = _without(state, "pooler."), plain["num_attention_heads"]
    for i in range(plain["num_hidden_layers"]):
        path = f"encoder.layer.{i}.attention.self"
        weights = [state.pop(f"{path}.{part}.weight") for part in ("query", "key", "value")]
        by_head = [w.view(heads, -1, w.shape[1]) for w in weights]  # [heads, width of a head, H] each
        state[f"{path}.in_proj.weight"] = torch.stack(by_head, 1).flatten(0, 2)
        state[f"{path}.q_bias"] = state.pop(f"{path}.query.bias")
        state[f"{path}.v_bias"] = state.pop(f"{path}.value.bias")
        del state[f"{path}.key.bias"]
    return DebertaConfig(**plain), state


def _as_deberta_v2(plain: Plain, state: State) -> tuple[PreTrainedConfig, State]:
    names = {f".{part}.": f".{part}_proj." for part in ("query", "key", "value")}
    return DebertaV2Config(**plain), _renamed(_without(state, "pooler."), names)


def _as_distilbert(plain: Plain, state: State) -> tuple[PreTrainedConfig, State]:
    _fold_types(state)
    names = {
        "attention.self.query.": "attention.q_lin.",
        "attention.self.key.": "attention.k_lin.",
        "attention.self.value.": "attention.v_lin.",
        "attention.output.dense.": "attention.out_lin.",
        "attention.output.LayerNorm.": "sa_layer_norm.",
        "intermediate.dense.": "ffn.lin1.",
        "output.dense.": "ffn.lin2.",
        "output.LayerNorm.": "output_layer_norm.",
    }
    own = {"hidden_dim": plain["intermediate_size"], "pad_token_id": plain["pad_token_id"]}
    sizes = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
    config = DistilBertConfig(**own, **{name: plain[key] for name, key in sizes.items()})
    layers = {key.replace("encoder.", "transformer."): w for key, w in _without(state, "pooler.").items()}
    return config, _renamed(layers, names)


def _as_mpnet(plain: Plain, state: State) -> tuple[PreTrainedConfig, State]:
    """Two rows in front of the positions, and no bias of relative positions."""
    _fold_types(state)
    _shift_positions(state, 2)
    names = {
        "attention.self.query.": "attention.attn.q.",
        "attention.self.key.": "attention.attn.k.",
        "attention.self.value.": "attention.attn.v.",
        "attention.output.dense.": "attention.attn.o.",
        "attention.output.LayerNorm.": "attention.LayerNorm.",
    }
    config = MPNetConfig(**plain | {"max_position_embeddings": 514})
    bias = torch.zeros(config.relative_attention_num_buckets, config.num_attention_heads)
    return config, _renamed(state, names) | {"encoder.relative_attention_bias.weight": bias}


_MINILM_AS: dict[str, Callable[[Plain, State], tuple[PreTrainedConfig, State]]] = {
    "roberta": _as_roberta,
    "electra": _as_electra,
    "deberta": _as_deberta,
    "deberta-v2": _as_deberta_v2,
    "distilbert": _as_distilbert,
    "mpnet": _as_mpnet,
}
MINILM_CLASSES = tuple(_MINILM_AS)


def _without(state: State, prefix: str) -> State:
    return {key: value for key, value in state.items() if not key.startswith(prefix)}


def _renamed(state: State, names: dict[str, str]) -> State:
    """Names with the first matching part replaced; the order of `names` counts."""
    renamed = {}
    for key, value in state.items():
        old = next((part for part in names if part in key), "")
        renamed[key.replace(old, names[old]) if old else key] = value
    return renamed


def _shift_positions(state: State, rows: int) -> None:
    """Put empty rows in front of the table of positions."""
    table = state["embeddings.position_embeddings.weight"]
    state["embeddings.position_embeddings.weight"] = torch.cat([torch.zeros_like(table[:rows]), table])


def _fold_types(state: State) -> None:
    """Add token type 0 to every position, for a class without token types."""
    kinds = state.pop("embeddings.token_type_embeddings.weight")
    table = state["embeddings.position_embeddings.weight"]
    state["embeddings.position_embeddings.weight"] = table + kinds[0]


def hidden_of(backbone: Backbone, encoded: Sequence[Encoded]) -> Tensor:
    """The encoder's states [T, H] of a batch, packed order, with whatever is attached."""
    with backbone.running(backbone.pack(encoded)) as hidden:
        return hidden


def pooled_states(backbone: Backbone, batch: PackedBatch, pooling: str) -> Tensor:
    """What a head reads [B, H] of a batch, in the caller's order, with whatever is attached."""
    with backbone.running(batch) as hidden:
        return READOUTS["pooled"].states(backbone, hidden, batch, pooling)


def answer(spec: HeadSpec, logits: Any, *, top_k: int | None = None) -> Answer:
    """What the logits [L] of one row mean; choices are called by their numbers."""
    kind, row = kind_of(spec), np.asarray(logits, dtype=np.float64)
    return kind.decide(spec, row[None], top_k, [[str(index) for index in range(len(row))]])[0]


def target_logits(backbone: Backbone, batch: PackedBatch, strings: Sequence[list[int]]) -> list[Tensor]:
    """Logits [T_i, V] at every token of each text's own string, the decoder being fed the string."""
    packed = [(row, strings[i]) for row, i in enumerate(batch.order)]
    with backbone.running(batch) as hidden:
        logits, _, target = decoding.teacher_forced(backbone, hidden, batch, packed)
    found = torch.split(logits, target.lengths.tolist())
    return [found[row] for row in batch.inverse.tolist()]
