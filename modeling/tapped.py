"""Tapped: a frozen module with what acts on its input and its output.

A wrapped submodule instead of forward hooks: the order is explicit and the compiler follows it.
It knows nothing of methods, banks or batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .sites import Tap


class Act(Protocol):
    """What acts at a tap: sees the module's input x [1, T, I] and output y [1, T, O]; returns the new y.

    An act on the input side is called with the input as both arguments. An act with `replaces` true
    computes the output from x alone, so the frozen module is not run.
    """

    @property
    def replaces(self) -> bool:
        """Whether the frozen module is left out."""

    @property
    def idle(self) -> bool:
        """Whether it changes nothing in the batch that runs."""

    @property
    def only_adds(self) -> bool:
        """Whether it adds to y what depends neither on x nor on y."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The new y."""


class Tapped(nn.Module):
    """A frozen module and the acts on it, applied in the order in which they were attached."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.acts: list[tuple[Tap, Act, Tensor | None]] = []  # with the columns that a tap covers

    def __getattr__(self, name: str) -> Any:
        # Library code reads attributes of the module it calls (T5: wo.weight), so they pass through.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, x: Tensor) -> Tensor:
        """x [1, T, I] -> [1, T, O]."""
        for tap, act, _ in self.acts:
            if tap.side == "in":
                x = act(x, x).to(x.dtype)  # parameters are float32, whatever the backbone runs in
        # An output act that replaces the module is handed its input twice and must not read the second.
        y = x if any(act.replaces for tap, act, _ in self.acts if tap.side == "out") else self.base(x)
        for tap, act, columns in self.acts:
            if tap.side == "out":
                y = _on_columns(act, columns, x, y).to(y.dtype)
        return y


def _on_columns(act: Act, columns: Tensor | None, x: Tensor, y: Tensor) -> Tensor:
    if columns is None:
        return act(x, y)
    return y.index_copy(-1, columns, act(x, y.index_select(-1, columns)))


def frozen_module(model: nn.Module, path: str) -> nn.Module:
    """The library's own module at `path`, without the wrapper if there is one."""
    module = model.get_submodule(path)
    return module.base if isinstance(module, Tapped) else module


def attach(model: nn.Module, tap: Tap, act: Act) -> None:
    """Put `act` on `tap`; the module is wrapped at the first act on it."""
    module = model.get_submodule(tap.path)
    if not isinstance(module, Tapped):
        module = Tapped(module)
        _replace(model, tap.path, module)
    columns = None
    if tap.columns is not None:
        with torch.inference_mode(False):  # whoever attaches: passes with gradients may read it, too
            columns = torch.tensor(tap.columns, device=next(module.parameters()).device)
    module.acts.append((tap, act, columns))


def detach(model: nn.Module, tap: Tap, act: Act) -> None:
    """Take `act` off `tap`; the library's module is put back when nothing is left on it."""
    module = model.get_submodule(tap.path)
    if not isinstance(module, Tapped):
        raise ValueError(f"nothing is attached at {tap.path}: this is a bug")
    module.acts = [placed for placed in module.acts if placed[1] is not act]
    if not module.acts:
        _replace(model, tap.path, module.base)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


@contextmanager
def attached(model: nn.Module, acts: Mapping[Tap, Act]) -> Iterator[None]:
    """Put `acts` on their taps for the time of the context."""
    done: list[tuple[Tap, Act]] = []
    try:
        for tap, act in acts.items():
            attach(model, tap, act)
            done.append((tap, act))
        yield
    finally:
        for tap, act in reversed(done):
            detach(model, tap, act)
