"""Whether a backbone may run in bfloat16: if its device is fast at it, and what rounding does to states.

bfloat16 has 8 bits of precision; each product and each sum of a pass is off by up to 2^-9 of its value. How
much of that arrives in the last states depends on the weights, so it is tried: N texts, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .backbone import Backbone

_MOST = 0.1  # of the distance between texts; MiniLM is off by 0.02

# Short and long, plain and not, in a few languages: what a tokenizer cannot read becomes its unknown token.
_TEXTS = (
    "The parcel arrived two days late and the box was open.",
    "yes",
    "Why does my invoice from 3 March say $1,204.50 when I paid 1,199?",
    "A film of rare patience: nothing happens for an hour, and then everything does.",
    "not good, not good at all!!!",
    "The committee adopted the motion by 12 votes to 5, with two abstentions; it takes effect on 1 July.",
    "int main(void) { return 0; }",
    "Die Lampe im Flur bleibt dunkel, obwohl die Birne neu ist.",
    "Où est passée ma commande ?",
    "Cells that lack the receptor showed no response to the ligand (p < 0.001), whereas controls did.",
    "she said that he said that they would not come after all",
    "https://example.org/a?b=c&d=e",
    "It rained. The match was called off. Nobody minded much, since the bar was open and the band could play "
    "under the roof of the old stand, where they went on until the lights of the last bus were seen.",
    "Bitte um Rückruf unter 0170 1234567.",
    "ok ok ok ok ok ok ok ok ok ok ok ok ok ok ok ok",
    "12 34 56",
)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether it multiplies bfloat16 much faster than float32: AMX on a CPU, or a GPU without emulation."""
    return has_bfloat16(device, ("amx_bf16",))


def has_bfloat16(device: torch.device, instructions: Sequence[str]) -> bool:
    """Whether a CPU has one of these instructions and a library that uses them, or a GPU does not emulate."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's
        return False
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in instructions)


def refusal_of_bfloat16(backbone: Backbone) -> str | None:
    """Why this backbone, wherever it is now, cannot run in bfloat16 or gains nothing by it."""
    if not has_fast_bfloat16(backbone.device):
        return "this processor has no fast products of bfloat16"
    return dict(backbone.family.refused_dtypes).get("bfloat16")


@torch.inference_mode()
def states_of_texts(backbone: Backbone) -> Tensor:
    """The mean last states of some texts [N, H], in float32."""
    batch = backbone.pack(backbone.text.encode(_TEXTS, min(64, backbone.max_tokens)))
    with backbone.running(batch) as hidden:
        states = torch.segment_reduce(hidden.float(), "mean", lengths=batch.lengths)
    return states.index_select(0, batch.inverse)


def disagreement(exact: Tensor, rounded: Tensor) -> float:
    """How far rounded states are off at most, in units of how far texts lie apart; infinite if not finite."""
    apart = (exact - exact.mean(0)).norm(dim=1).mean()
    off = (rounded - exact).norm(dim=1).max() / apart
    return float(off) if torch.isfinite(off) else float("inf")


def agrees(off: float) -> bool:
    """Whether a `disagreement` is one that tasks do not notice."""
    return off <= _MOST
