"""Other weights in a frozen model for a while: what a method without a per-row form needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def replaced(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let `weights` (by parameter name) stand for the model's parameters; tied ones move together.

    The tensors may carry gradients. Raises KeyError for a name that the model does not have.
    """
    named = dict(model.named_parameters())
    by_parameter = {id(named[name]): tensor for name, tensor in weights.items()}
    taken: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for module in model.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None and id(parameter) in by_parameter:
                    taken.append((module, name, parameter))
                    module._parameters[name] = None  # not deleted: the order of parameters must stay
                    module.__dict__[name] = by_parameter[id(parameter)]
        yield
    finally:
        for module, name, parameter in taken:
            module.__dict__.pop(name, None)
            module._parameters[name] = parameter
