"""Compacter: hypercomplex adapters of low rank that share one rule in the whole model.

Karimi Mahabadi et al., "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers", NeurIPS 2021, arXiv
2106.04647: H = sum_s kron(A_s, L_s R_s). L, R and the bias are each projection's own, the rule A [n, n, n]
belongs to all projections of all layers and stacks: 2k(d + r) + d + r parameters a block and n^3 once.
A starts at N(0, 1e-4), so that a new block is all but the identity, L and R Glorot-uniformly with a gain of
sqrt 2. In the file the rule is `shared/phm_rule`, once; the official checkpoints repeat it with every layer.

Options of the official code that the paper mentions: factors shared like the rule (`share_factors`: then only
biases are a block's own), and a rule that is a product of two factors of rank 1 (`factorised_rule`; the code
draws both from N(0, 1e-4), so that their product starts at 1e-8; here the product starts at 1e-4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from ..errors import MethodError
from ..layers.phm import SHARED_RULE_STD, new_factors, new_lphm, new_rule
from ..sites import ALL_NORM_SITES, Tap
from .base import METHODS, Shared
from .blocks import Blocks, Division, MakeProjection, Rank
from .options import Layers

_RULE = "phm_rule"  # as the official code calls it


@METHODS.add
@dataclass(frozen=True)
class Compacter(Blocks):
    """Options: those of all blocks; `division` (n), `rank` (k); what is shared besides the rule."""

    name: ClassVar[str] = "compacter"
    paper: ClassVar[str] = "Karimi Mahabadi et al. 2021, arXiv 2106.04647"

    division: Division = 4
    rank: Rank = 1
    share_factors: bool = False
    factorised_rule: bool = False
    layers: Layers = "all"

    def share(self, taps: Sequence[Tap]) -> dict[str, nn.Parameter]:
        """`phm_rule` [n, n, n] (or its factors); `down.left`, `up.right`, ... if shared.

        Raises MethodError if n does not divide the widths, or for factors shared by different widths.
        """
        rule = new_rule(self.division, SHARED_RULE_STD, factorised=self.factorised_rule)
        shared = {name.replace("rule", _RULE): parameter for name, parameter in rule.items()}
        blocks = [tap for tap in taps if tap.site not in ALL_NORM_SITES]
        if not (self.share_factors and blocks):
            return shared
        found = {self.divided(tap, self.division) for tap in blocks}
        if len(found) > 1:
            raise MethodError(
                f"method {self.name}: share_factors needs blocks of one width, this backbone has "
                f"{', '.join(str(wide) for wide, _ in sorted(found))}; train without it"
            )
        self.check_rank(blocks[0], self.rank, self.division)
        wide, narrow = found.pop()
        for prefix, ends in (("down", (wide, narrow)), ("up", (narrow, wide))):
            factors = new_factors(*ends, self.division, self.rank)
            shared |= {f"{prefix}.{name}": parameter for name, parameter in factors.items()}
        return shared

    def projection(self, tap: Tap) -> MakeProjection:
        self.divided(tap, self.division)
        self.check_rank(tap, self.rank, self.division)
        own = not self.share_factors
        return partial(new_lphm, n=self.division, rank=self.rank, own_factors=own)

    def shared_parts(self, shared: Shared) -> Mapping[str, tuple[str, nn.Parameter]]:
        """The rule is that of both projections."""
        parts: dict[str, tuple[str, nn.Parameter]] = {}
        for name, parameter in shared.items():
            if name.startswith(_RULE):
                part = name.replace(_RULE, "rule")
                parts |= {f"down.{part}": (name, parameter), f"up.{part}": (name, parameter)}
            else:
                parts[name] = (name, parameter)
        return parts
