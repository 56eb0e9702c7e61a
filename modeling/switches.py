"""Switches: which parts of an adapter can be taken off, each by itself, and the adapter with some of them on.

Where a part is off, the frozen model is as it was: that is what "without" means, whatever the method. It
runs nothing and judges nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .adapter import Adapter
from .sites import STACK_SITES, Site, Stack, Tap

_OF_STACKS = {
    Site.EMBED: "prompt",
    Site.FINAL_NORM: "last norm",
    Site.LM_HEAD: "output layer's shift",
}
_PLACES = {Site.EMBED: -1, Site.FINAL_NORM: 1_000_000, Site.LM_HEAD: 1_000_001}


@dataclass(frozen=True, slots=True)
class Switch:
    """What is switched as one: all that acts in one layer of a stack, or once in it, or other weights.

    `layer` is None for what lies in no layer. Cross-attention belongs to the decoder's layers. `taps` is
    empty for `weights`, an output layer that is trained beside what acts at taps.
    """

    name: str
    stack: Stack
    layer: int | None
    taps: tuple[Tap, ...] = ()
    weights: bool = False
    parameters: int = 0


def switches_of(adapter: Adapter) -> tuple[Switch, ...]:
    """Every switch of an adapter, in the order in which a text passes them.

    None for a method that acts at no tap: weights that are all replaced at once have no layer to take off.
    """
    found: dict[tuple[bool, int, Stack], list[Tap]] = {}
    for tap in adapter.body:
        stack: Stack = "encoder" if tap.stack == "encoder" else "decoder"
        found.setdefault((stack == "decoder", _PLACES.get(tap.site, tap.layer), stack), []).append(tap)
    both = len({tap.stack for tap in adapter.body}) > 1
    made = [_switch(adapter, stack, found[key], both) for key in sorted(found) for stack in key[2:]]
    if not made or adapter.weights is None:
        return tuple(made)
    count = sum(parameter.numel() for parameter in adapter.weights.parameters())
    return (*made, Switch("output layer", "decoder", None, (), True, count))


def only(adapter: Adapter, on: Collection[Switch]) -> Adapter:
    """The same adapter, head and all, with these switches on and the others off; it shares its parameters."""
    taps = {tap for switch in on for tap in switch.taps}
    body = {tap: module for tap, module in adapter.body.items() if tap in taps}
    weights = adapter.weights if any(switch.weights for switch in on) else None
    return Adapter(adapter.method, adapter.spec, body, adapter.head, adapter.shared, weights)


def _switch(adapter: Adapter, stack: Stack, taps: list[Tap], both: bool) -> Switch:
    first = taps[0]
    once = first.site in STACK_SITES
    what = _OF_STACKS[first.site] if once else f"layer {first.layer}"
    count = sum(p.numel() for tap in taps for p in adapter.body[tap].parameters())
    name = f"{stack} {what}" if both else what
    return Switch(name, stack, None if once else first.layer, tuple(taps), False, count)
