"""BitFit: only the bias terms are trained.

Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
Language-models", ACL 2022, arXiv 2106.10199. The trained biases of a layer are those of the query, key,
value and output projections, of both feed-forward projections and of both norms: 11 H a layer with F = 4H,
101,376 on BERT-base. What is stored is the change of each bias, which starts at zero.
The key bias cannot change an attention weight (it adds the same number to every score of a query) and
is kept because the paper counts it. Biases outside the layers (embedding norm, pooler) stay frozen.
T5 has no biases: as in Compacter (arXiv 2106.04647), they are added at zero to all of these places, in
cross-attention too, after the scale of each block's norm (not the final norms), and to the output layer,
which only text-to-text tasks read. With `train_output_layer` (Table 7 there) that layer's weight is trained,
too, and the rows run alone: 24,933,732 numbers on T5-base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..ops.affine import Affine
from ..sites import Site, Tap
from ..weights import Named
from .base import METHODS, Method, Shared
from .options import Layers
from .output_layer import OutputLayer, output_layer_of


@METHODS.add
@dataclass(frozen=True)
class BitFit(Method):
    """Options: in which layers, and whether the weight of the output layer is trained as well."""

    name: ClassVar[str] = "bitfit"
    paper: ClassVar[str] = "Ben Zaken et al. 2022, arXiv 2106.10199"

    layers: Layers = "all"
    train_output_layer: bool = False

    sites = frozenset(
        {
            Site.ATTN_Q,
            Site.ATTN_K,
            Site.ATTN_V,
            Site.ATTN_OUT,
            Site.ATTN_NORM,
            Site.FFN_UP,
            Site.FFN_GATE,
            Site.FFN_OUT,
            Site.FFN_NORM,
            Site.LM_HEAD,
        }
    )

    def weights(self, model: Named) -> OutputLayer | None:
        return output_layer_of(self.name, model) if self.train_output_layer else None

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> Affine:
        return Affine(tap.width, scale=False, shift=True)
