"""What an adapter on the self-attention output does there, attention head by attention head.

For A' = w * A + b on the concatenated heads (Chen et al. 2023, arXiv 2407.11033, see `methods/hadamard.py`):
how large w - 1 and b are in the columns of each attention head, and how far A' is from A on given texts.
N attention heads, d columns each, T tokens, B texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .adapter import Adapter
from .backbone import Backbone
from .packed import PackedBatch
from .sites import Site, Tap
from .text import Encoded


def attention_taps(adapter: Adapter) -> list[Tap]:
    """Where the adapter acts on the attention heads side by side, before they are projected together."""
    return [tap for tap in adapter.body if tap.site is Site.ATTN_CONTEXT]


def num_attention_heads(backbone: Backbone, tap: Tap) -> int:
    """N of the stack that the tap lies in."""
    of_stack = None if tap.stack == "encoder" else getattr(backbone.config, "decoder_attention_heads", None)
    return int(of_stack or backbone.config.num_attention_heads)


def sizes(adapter: Adapter, backbone: Backbone) -> dict[Tap, tuple[Tensor, Tensor]]:
    """Root mean squares over the columns of each attention head: of w - 1 [N] and of b [N]."""
    found = {}
    for tap in attention_taps(adapter):
        heads, parts = num_attention_heads(backbone, tap), dict(adapter.body[tap].named_parameters())
        zero = torch.zeros(tap.width, device=backbone.device)
        scale = parts["scale"].detach() - 1 if "scale" in parts else zero
        shift = parts["shift"].detach() if "shift" in parts else zero
        found[tap] = _spread(scale, heads), _spread(shift, heads)
    return found


@torch.no_grad()
def changes(adapter: Adapter, backbone: Backbone, encoded: Sequence[Encoded]) -> dict[Tap, Tensor]:
    """|A' - A| / |A| [B, N] of each text and attention head, over its tokens, while the whole adapter acts.

    Of the encoder alone. The adapter must not be attached.
    """
    batch = backbone.pack(encoded, adapter.virtual_tokens)
    with _recorded(adapter, backbone) as seen, adapter.attached(backbone), backbone.running(batch):
        pass
    found = {}
    for tap, pairs in seen.items():
        heads = num_attention_heads(backbone, tap)
        moved, before = (
            sum((_squares(value, batch, heads) for value in values), torch.zeros(()))
            for values in ([new - old for old, new in pairs], [old for old, _ in pairs])
        )
        found[tap] = (moved / before.clamp_min(torch.finfo(before.dtype).tiny)).sqrt()[batch.inverse.cpu()]
    return found


@contextmanager
def _recorded(adapter: Adapter, backbone: Backbone) -> Iterator[Mapping[Tap, list[tuple[Tensor, Tensor]]]]:
    """A and A' of every pass through the adapter's modules on the encoder's attention heads."""
    taps = [tap for tap in attention_taps(adapter) if tap.stack == "encoder"]
    seen: dict[Tap, list[tuple[Tensor, Tensor]]] = {tap: [] for tap in taps}

    def hook(tap: Tap) -> Any:
        def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[tap].append((inputs[0].float(), output.float()))

        return see

    handles = [adapter.body[tap].register_forward_hook(hook(tap)) for tap in taps]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _squares(values: Tensor, batch: PackedBatch, heads: int) -> Tensor:
    """values [1, T, H], or a padded grid [B, L, H] -> sums of squares [B, N] in packed order, on the host."""
    if batch.layout.padded:
        places = torch.arange(values.shape[1], device=values.device)
        flat = values[places[None] < batch.lengths[:, None]]
    else:
        flat = values[0]
    per_token = flat.square().view(len(flat), heads, -1).sum(-1)  # [T, N]
    return torch.segment_reduce(per_token, "sum", lengths=batch.lengths, axis=0).cpu()


def _spread(values: Tensor, heads: int) -> Tensor:
    return values.view(heads, -1).square().mean(-1).sqrt().cpu()
