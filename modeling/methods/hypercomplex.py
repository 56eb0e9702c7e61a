"""What Compacter and Compacter++ share: parameters of the whole model, and the blocks that use them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from torch import nn

from ..errors import MethodError
from ..layers import LPHM
from ..layers.phm import SHARED_RULE_STD, new_factors, new_rule
from ..sites import ALL_NORM_SITES, Tap
from .base import Shared
from .blocks import BlockMethod, build_at, check_rank, divided

_RULE = "phm_rule"  # as the official code calls it


class CompacterMethod(BlockMethod, Protocol):
    """The options of both methods."""

    @property
    def division(self) -> int:
        """n, the number of Kronecker products."""

    @property
    def rank(self) -> int:
        """k, the rank of the factors."""

    @property
    def share_factors(self) -> bool:
        """Whether the factors belong to all blocks."""

    @property
    def factorised_rule(self) -> bool:
        """Whether the rule is a product of two factors."""


def share_compacter(method: CompacterMethod, taps: Sequence[Tap]) -> dict[str, nn.Parameter]:
    """`phm_rule` [n, n, n] (or `phm_rule_left`, `phm_rule_right`); `down.left`, `up.right`, ... if shared.

    Raises MethodError if n does not divide the widths, or if factors are to be shared by different widths.
    """
    rule = new_rule(method.division, SHARED_RULE_STD, factorised=method.factorised_rule)
    shared = {name.replace("rule", _RULE): parameter for name, parameter in rule.items()}
    blocks = [tap for tap in taps if tap.site not in ALL_NORM_SITES]
    if not (method.share_factors and blocks):
        return shared
    found = {divided(method, tap, method.division) for tap in blocks}
    if len(found) > 1:
        raise MethodError(
            f"method {method.name}: share_factors needs blocks of one width, this backbone has "
            f"{', '.join(str(wide) for wide, _ in sorted(found))}; train without it"
        )
    check_rank(method, blocks[0])
    wide, narrow = found.pop()
    for prefix, ends in (("down", (wide, narrow)), ("up", (narrow, wide))):
        factors = new_factors(*ends, method.division, method.rank)
        shared |= {f"{prefix}.{name}": parameter for name, parameter in factors.items()}
    return shared


def build_compacter(method: CompacterMethod, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
    """A norm of one's own at a norm, elsewhere a block of low-rank PHM projections under the shared rule.

    Raises MethodError if n does not divide the widths.
    """
    if tap.site not in ALL_NORM_SITES:
        divided(method, tap, method.division)
    projection = partial(
        LPHM, n=method.division, rank=method.rank, rule_std=None, own_factors=not method.share_factors
    )
    return build_at(method, tap, frozen, projection, _parts_of(shared))


def _parts_of(shared: Shared) -> dict[str, tuple[str, nn.Parameter]]:
    """Which part of a block each shared parameter stands for: the rule is that of both projections."""
    parts: dict[str, tuple[str, nn.Parameter]] = {}
    for name, parameter in shared.items():
        if name.startswith(_RULE):
            part = name.replace(_RULE, "rule")
            parts |= {f"down.{part}": (name, parameter), f"up.{part}": (name, parameter)}
        else:
            parts[name] = (name, parameter)
    return parts
