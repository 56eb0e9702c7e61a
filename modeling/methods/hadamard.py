"""Hadamard adapter: a scale and a shift of the self-attention output, and one trained norm per layer.

Chen et al., "Hadamard Adapter: An Extreme Parameter-Efficient Adapter Tuning Method for Pre-trained
Language Models", CIKM 2023, arXiv 2407.11033: A' = w * A + b with w = 1 and b = 0 at the start, one w
and one b of width H per layer, shared by all positions; the norm that follows is trained with it.
Per layer that is 2H for the adapter and 2H for one norm: 4 H L, 36,864 on BERT-base.

Open in the sources, so a switch here: A is read as the concatenated heads before the output projection
(`pre_dense`, as in the paper's formula, which has no W_O) or after it (`post_dense`); the trained norm
is the one right after the attention (`attention`), the one after the feed-forward (`output`), `both`
or `none`. Cross-attention is left alone ("self-attention outputs"). The paper's backbones are post-norm; on
a pre-norm one (T5, ModernBERT) `attention` is the norm of the attention sublayer all the same, which stands
before it there, so the adapter's output passes the next sublayer's norm, which stays frozen. ModernBERT's
first layer has none, and its norms have no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from ..ops import TapModule
from ..ops.affine import Affine
from ..ops.norm import Norm
from ..sites import NORM_SITES, Site, Tap
from .base import METHODS, Method, Shared
from .options import Layers

_PLACEMENTS = {"pre_dense": Site.ATTN_CONTEXT, "post_dense": Site.ATTN_OUT}
_NORMS: dict[str, frozenset[Site]] = {
    "attention": frozenset({Site.ATTN_NORM}),
    "output": frozenset({Site.FFN_NORM}),
    "both": NORM_SITES,
    "none": frozenset(),
}


@METHODS.add
@dataclass(frozen=True)
class Hadamard(Method):
    """Options: where the adapter acts, which norm is trained, in which layers."""

    name: ClassVar[str] = "hadamard"
    paper: ClassVar[str] = "Chen et al. 2023, arXiv 2407.11033"

    placement: Literal["pre_dense", "post_dense"] = "pre_dense"
    norm: Literal["attention", "output", "both", "none"] = "attention"
    layers: Layers = "all"

    @property
    def sites(self) -> frozenset[Site]:
        return _NORMS[self.norm] | {_PLACEMENTS[self.placement]}

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Self-attention outputs and the chosen norms, in the chosen layers."""
        return super().select([tap for tap in taps if tap.stack != "cross"])

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> TapModule:
        """A norm of one's own at a norm, w and b elsewhere."""
        return Norm(frozen) if tap.site in NORM_SITES else Affine(tap.width, scale=True, shift=True)
