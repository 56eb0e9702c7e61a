"""The number format of a backbone: as it was asked for, or what `auto` finds that processor and weights bear.

`auto` is bfloat16 where the processor multiplies it fast, states of some texts come out as in float32, and
(judged later, when they are replayed) the probes of every stored version do; else float32. Whoever asks for a
format gets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeling import Backbone

AUTO, FLOAT32, BFLOAT16 = "auto", "float32", "bfloat16"


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """`name` of the format, and why; `tried`: chosen on trial, to be given up if stored probes object."""

    name: str
    why: str
    tried: bool = False


def load(name: str, device: str, asked: str) -> tuple[Backbone, NumberFormat]:
    """A backbone in the format that was asked for, or that `auto` finds. Raises BackboneError."""
    import torch

    from modeling import load_backbone

    if asked != AUTO:
        backbone = load_backbone(name, device=device, dtype=getattr(torch, asked))
        return backbone, NumberFormat(asked, f"dtype is {asked}")
    return _tried(load_backbone(name, device=device), name, device)


def _tried(backbone: Backbone, name: str, device: str) -> tuple[Backbone, NumberFormat]:
    import torch

    from modeling import load_backbone, rounding

    refusal = rounding.refusal_of_bfloat16(backbone)
    if refusal is not None:
        return backbone, NumberFormat(FLOAT32, refusal)
    exact = rounding.states_of_texts(backbone)
    backbone.round_to(torch.bfloat16)
    off = rounding.disagreement(exact, rounding.states_of_texts(backbone))
    told = f"in bfloat16 the states of some texts are off by {off:.3f} of the distance between texts"
    if rounding.agrees(off):
        return backbone, NumberFormat(
            BFLOAT16, f"this processor has fast products of it, and {told}", tried=True
        )
    return load_backbone(name, device=device), NumberFormat(FLOAT32, told)
