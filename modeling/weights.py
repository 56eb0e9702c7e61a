"""Other weights in a frozen model for a while: what a method without a per-row form needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def replaced(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let `weights` (by parameter name) stand for the model's parameters.

    Tied parameters move together under the first of their names; another of their names among the weights
    stands for that place alone. The tensors may carry gradients. Raises KeyError for an unknown name.
    """
    first, every = dict(model.named_parameters()), dict(model.named_parameters(remove_duplicate=False))
    unknown = [name for name in weights if name not in every]
    if unknown:
        raise KeyError(f"the model has no parameter {unknown[0]}")
    by_parameter = {id(first[name]): tensor for name, tensor in weights.items() if name in first}
    taken: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for path, module in model.named_modules():
            for name, parameter in list(module._parameters.items()):
                new = weights.get(f"{path}.{name}" if path else name)
                new = by_parameter.get(id(parameter)) if new is None else new
                if parameter is None or new is None:
                    continue
                taken.append((module, name, parameter))
                module._parameters[name] = None  # not deleted: the order of parameters must stay
                module.__dict__[name] = new
        yield
    finally:
        for module, name, parameter in taken:
            module.__dict__.pop(name, None)
            module._parameters[name] = parameter
