"""BART: encoder-decoder, post-norm, learned positions that the library counts itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedConfig

from ..sites import Site as S
from ..sites import Stack, Tap
from .base import FAMILIES, Family, Seq2Seq, SiteRow, layout


def _attention(config: PreTrainedConfig, name: str) -> list[SiteRow]:
    h = config.d_model
    return [
        (S.ATTN_Q, f"{name}.q_proj", "out", h, h),
        (S.ATTN_K, f"{name}.k_proj", "out", h, h),
        (S.ATTN_V, f"{name}.v_proj", "out", h, h),
        (S.ATTN_CONTEXT, f"{name}.out_proj", "in", h, h),
        (S.ATTN_OUT, f"{name}.out_proj", "out", h, h),
        (S.ATTN_NORM, f"{name}_layer_norm", "out", h, h),
    ]


def _feed_forward(h: int, f: int) -> list[SiteRow]:
    return [
        (S.FFN_UP, "fc1", "out", h, f),
        (S.FFN_INNER, "fc2", "in", f, h),
        (S.FFN_OUT, "fc2", "out", f, h),
        (S.FFN_NORM, "final_layer_norm", "out", h, h),
    ]


def _taps(config: PreTrainedConfig) -> list[Tap]:
    h, vocab = config.d_model, config.vocab_size
    taps = [Tap(S.EMBED, "encoder", 0, "model.encoder.embed_tokens", "out", vocab, h)]
    for i in range(config.encoder_layers):
        rows = [*_attention(config, "self_attn"), *_feed_forward(h, config.encoder_ffn_dim)]
        taps += layout("encoder", i, f"model.encoder.layers.{i}", rows)
    for i in range(config.decoder_layers):
        path = f"model.decoder.layers.{i}"
        taps += layout("decoder", i, path, _attention(config, "self_attn"))
        taps += layout("cross", i, path, _attention(config, "encoder_attn"))
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


def _logits(model: Any, states: Tensor) -> Tensor:
    logits: Tensor = model.lm_head(states) + model.final_logits_bias
    return logits


FAMILIES.add(
    Family(
        name="bart",
        taps=_taps,
        first_position=lambda config: 0,
        max_tokens=lambda config: int(config.max_position_embeddings),
        poolings=("eos",),
        positions=False,
        prepare=_prepare,
        seq2seq=Seq2Seq("model.encoder", "model.decoder", _logits, _place),
    )
)
