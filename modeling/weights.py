"""Other weights in a frozen model for a while: what a method without a per-row form needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn


class Named(Protocol):
    """What has parameters with names: a model, or what was noted of one."""

    def named_parameters(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
        """All of them by name; tied ones once, under the first of their names, unless told otherwise."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All of them, tied ones once."""


class OwnParameters:
    """A model's parameters by the library's names, and the modules that hold them.

    Noted once, before anything is attached to the model or replaced in it: neither the names (wrappers at
    taps would stand in them) nor the parameters depend on what the model is doing, in whatever thread.
    """

    def __init__(self, model: nn.Module) -> None:
        self.first = dict(model.named_parameters())
        self.every = dict(model.named_parameters(remove_duplicate=False))
        self.places = [
            (f"{path}.{name}" if path else name, module, name)
            for path, module in model.named_modules()
            for name in module._parameters
            if module._parameters[name] is not None
        ]

    def named_parameters(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
        return iter((self.first if remove_duplicate else self.every).items())

    def parameters(self) -> Iterator[nn.Parameter]:
        return iter(self.first.values())


@contextmanager
def replaced(own: OwnParameters, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let `weights` (by parameter name) stand for a model's own parameters.

    Tied parameters move together under the first of their names; another of their names among the weights
    stands for that place alone. The tensors may carry gradients. Raises KeyError for an unknown name.
    """
    unknown = [name for name in weights if name not in own.every]
    if unknown:
        raise KeyError(f"the model has no parameter {unknown[0]}")
    by_parameter = {id(own.first[name]): tensor for name, tensor in weights.items() if name in own.first}
    taken: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for place, module, name in own.places:
            parameter = module._parameters[name]
            new = weights.get(place)
            new = by_parameter.get(id(parameter)) if new is None else new
            if parameter is None or new is None:
                continue
            taken.append((module, name, parameter))
            module.__dict__[name] = new  # found first; other threads see one or the other, never nothing
            module._parameters[name] = None  # not deleted: the order of parameters must stay
        yield
    finally:
        for module, name, parameter in taken:
            module._parameters[name] = parameter
            module.__dict__.pop(name, None)
