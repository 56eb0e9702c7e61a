"""Prompt tuning: trained vectors in front of every text.

Lester et al., "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021, arXiv 2104.08691; as
compared with in Compacter (arXiv 2106.04647): P = 100 rows of width E in front of the encoder's word
embeddings, seen by every token and by cross-attention, counted by relative positions; nothing else is
trained. Started at random, U(-0.5, 0.5) (Prompt-R), or at the first P rows of the embedding matrix
(Prompt-T). The official code of Compacter copies those rows before the checkpoint is loaded, so that its
Prompt-T starts at noise; here they are the trained rows, as the paper says.
Pooling never reads the virtual tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from ..errors import MethodError
from ..ops.prompt import Prompt
from ..sites import Site, Tap
from .base import METHODS, Method, Shared
from .options import Whole


@METHODS.add
@dataclass(frozen=True)
class PromptTuning(Method):
    """Options: how many virtual tokens, and where they start."""

    name: ClassVar[str] = "prompt_tuning"
    paper: ClassVar[str] = "Lester et al. 2021, arXiv 2104.08691"

    tokens: Annotated[int, Whole(1, 4096), "1 to 4096, below the backbone's positions"] = 100
    start: Literal["random", "vocabulary"] = "random"

    sites = frozenset({Site.EMBED})

    @property
    def virtual_tokens(self) -> int:
        return self.tokens

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> Prompt:
        """P rows [P, E]."""
        rows = torch.empty(self.tokens, tap.dim_out).uniform_(-0.5, 0.5)
        if self.start == "vocabulary":
            table = frozen.weight
            assert isinstance(table, torch.Tensor)
            if table.shape[0] < self.tokens:
                raise MethodError(
                    f"method {self.name}: tokens is {self.tokens}; the vocabulary has {table.shape[0]} rows"
                )
            rows = table.detach()[: self.tokens].clone()
        return Prompt(rows)
