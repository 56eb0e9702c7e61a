"""Compacter++: the blocks of `compacter` after the feed-forward only.

Karimi Mahabadi et al., "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers", NeurIPS 2021, arXiv
2106.04647: half of Compacter's blocks, nothing else changes; every norm is trained. AdapterHub's
configuration of that name is another thing: its block reads the state after the residual and, in BERT, after
the norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..sites import Site
from .base import METHODS
from .compacter import Compacter


@METHODS.add
@dataclass(frozen=True)
class CompacterPlusPlus(Compacter):
    """Options: those of `compacter`."""

    name: ClassVar[str] = "compacter_pp"

    sites = frozenset({Site.FFN_OUT})
