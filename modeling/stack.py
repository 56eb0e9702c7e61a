"""The layers of an encoder one after another: a pass that begins at one of them, or ends below one.

It knows modules and states, no families and no batches. The library's model runs unmodified around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def begun_at(layers: Sequence[nn.Module], number: int, states: Tensor) -> Iterator[None]:
    """Within it the layers below `number` (1 or more) do nothing, and `states` leave the last of them."""

    def given(*_: Any, **__: Any) -> Tensor:
        return states

    with _instead(layers[: number - 1], _unchanged), _instead(layers[number - 1 : number], given):
        yield


@contextmanager
def ended_below(layers: Sequence[nn.Module], number: int) -> Iterator[None]:
    """Within it the layers from `number` on do nothing."""
    with _instead(layers[number:], _unchanged):
        yield


@contextmanager
def noted(layers: Sequence[nn.Module], number: int) -> Iterator[list[Tensor]]:
    """The states [1, T, H] that enter layer `number` (1 or more) of every pass within it, detached."""
    found: list[Tensor] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.append(output.detach())

    handle = layers[number - 1].register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()


def _unchanged(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden


@contextmanager
def _instead(layers: Sequence[nn.Module], forward: Callable[..., Tensor]) -> Iterator[None]:
    """Layers that run `forward` for the time of the context; nothing stays behind on them."""
    for layer in layers:
        layer.forward = forward
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
