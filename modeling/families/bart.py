"""BART: encoder-decoder, post-norm, learned positions that the library counts itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedConfig

from ..sites import Site as S
from ..sites import Stack, Tap
from .base import FAMILIES, Family, Seq2Seq, SiteRow, attention, feed_forward, layout


def _attention(h: int, name: str) -> list[SiteRow]:
    paths = (f"{name}.{one}_proj" for one in ("q", "k", "v", "out"))
    return attention(h, h, f"{name}_layer_norm", *paths)


def _feed_forward(h: int, f: int) -> list[SiteRow]:
    return feed_forward(h, f, "final_layer_norm", "fc1", "fc2")


def _taps(config: PreTrainedConfig) -> list[Tap]:
    h, vocab = config.d_model, config.vocab_size
    taps = [Tap(S.EMBED, "encoder", 0, "model.encoder.embed_tokens", "out", vocab, h)]
    for i in range(config.encoder_layers):
        rows = [*_attention(h, "self_attn"), *_feed_forward(h, config.encoder_ffn_dim)]
        taps += layout("encoder", i, f"model.encoder.layers.{i}", rows)
    for i in range(config.decoder_layers):
        path = f"model.decoder.layers.{i}"
        taps += layout("decoder", i, path, _attention(h, "self_attn"))
        taps += layout("cross", i, path, _attention(h, "encoder_attn"))
        taps += layout("decoder", i, path, _feed_forward(h, config.decoder_ffn_dim))
    return [*taps, Tap(S.LM_HEAD, "decoder", 0, "lm_head", "out", h, vocab)]


class _Positions(nn.Module):
    """The library's position table, read at the positions that it was told instead of by counting."""

    def __init__(self, table: Any) -> None:
        super().__init__()
        self.weight, self.offset = table.weight, int(table.offset)
        self.places: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """-> [1, T, H]."""
        assert self.places is not None, "no positions were told: this is a bug"
        return embedding(self.places + self.offset, self.weight)


def _prepare(model: Any) -> None:
    for stack in (model.model.encoder, model.model.decoder):
        stack.embed_positions = _Positions(stack.embed_positions)


def _place(model: Any, stack: Stack, positions: Tensor) -> None:
    side = model.model.encoder if stack == "encoder" else model.model.decoder
    side.embed_positions.places = positions


def _bias(model: Any) -> Tensor:
    bias: Tensor = model.final_logits_bias[0]
    return bias


_READS = (
    *("vocab_size", "d_model", "max_position_embeddings", "activation_function", "scale_embedding"),
    *("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"),
    *("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"),
)
FAMILIES.add(
    Family(
        "bart",
        _taps,
        _READS,
        poolings=("eos",),
        positions=False,
        prepare=_prepare,
        fast=True,
        seq2seq=Seq2Seq("model.encoder", "model.decoder", "lm_head", bias=_bias, place=_place),
    )
)
