"""Tiny random backbones, one per family, and the embedded weights in other classes; for tests only."""

from __future__ import annotations

import random
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import RobertaProcessing, TemplateProcessing
from transformers import (
    AutoModel,
    BertConfig,
    ElectraConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from modeling import Backbone, load_backbone

WORDS = [f"w{i}" for i in range(80)]
VOCAB = {t: i for i, t in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS])}
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": len(VOCAB),
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**_SIZES),
    "roberta": RobertaConfig(**_SIZES, type_vocab_size=1),
    "xlm-roberta": XLMRobertaConfig(**_SIZES, type_vocab_size=1),
    "electra": ElectraConfig(**_SIZES, embedding_size=16),
}


def tokenizer(model_type: str) -> Tokenizer:
    """A word tokenizer over `WORDS` with the special tokens of the family."""
    built = Tokenizer(WordPiece(VOCAB, unk_token="[UNK]"))
    built.normalizer, built.pre_tokenizer = Lowercase(), Whitespace()
    if "roberta" in model_type:
        built.post_processor = RobertaProcessing(("[SEP]", 2), ("[CLS]", 1), add_prefix_space=False)
    else:
        built.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
        )
    return built


def tiny_model(model_type: str, seed: int = 0) -> torch.nn.Module:
    """An untouched Hugging Face model with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: torch.nn.Module = AutoModel.from_config(deepcopy(CONFIGS[model_type]))
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "LayerNorm.weight")):  # random too, or a lost one would not show
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def tiny_backbone(model_type: str, seed: int = 0) -> Backbone:
    """A fresh tiny backbone of a family."""
    model = tiny_model(model_type, seed)
    return Backbone(f"tiny-{model_type}", model, CONFIGS[model_type], tokenizer(model_type), torch.float32)


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


def minilm_as(model_type: str) -> tuple[Backbone, torch.nn.Module]:
    """The embedded weights in another class of the same function, and an untouched model of that class."""
    source = load_backbone("minilm")
    plain = {k: v for k, v in source.config.to_dict().items() if k != "model_type"}
    state = source.model.state_dict()
    if model_type == "roberta":  # its positions start after the padding id, so one row stands in front
        table = state["embeddings.position_embeddings.weight"]
        state["embeddings.position_embeddings.weight"] = torch.cat([torch.zeros_like(table[:1]), table])
        config: PreTrainedConfig = RobertaConfig(**plain | {"max_position_embeddings": 513})
    else:
        config = ElectraConfig(**plain, embedding_size=source.hidden_size)
        state = {key: value for key, value in state.items() if not key.startswith("pooler.")}
    models = []
    for _ in range(2):
        model = AutoModel.from_config(deepcopy(config))
        model.load_state_dict(state)
        models.append(model.eval())
    tokens = source.text._tokenizer
    return Backbone(f"minilm-{model_type}", models[0], config, tokens, torch.float32), models[1]
