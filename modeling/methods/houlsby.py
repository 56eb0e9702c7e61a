"""Adapter: a dense bottleneck after self-attention and after the feed-forward, and every norm.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751, as trained in
the Compacter paper (arXiv 2106.04647, `Adapter`): y + up(gelu(down(y))) with 2dr + d + r parameters,
r = d / 32, weights from N(0, 0.01), biases 0. The paper cites other sizes of r; its configurations ship 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import METHODS
from .blocks import Blocks
from .options import Layers


@METHODS.add
@dataclass(frozen=True)
class Houlsby(Blocks):
    """Options: those of all blocks."""

    name: ClassVar[str] = "houlsby"
    paper: ClassVar[str] = "Houlsby et al. 2019, arXiv 1902.00751"

    layers: Layers = "all"
