"""AdamW with its groups, the schedule and the clipping: everything that turns a gradient into a step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

_FUSED = {"cpu", "cuda"}


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate (at the top of the schedule) and a weight decay."""

    parameters: tuple[nn.Parameter, ...]
    lr: float
    weight_decay: float = 0.0


def build_optimizer(groups: Sequence[Group]) -> torch.optim.AdamW:
    """AdamW with bias correction; each group remembers the top of its schedule as `top_lr`.

    One kernel updates all parameters, where the device has it.
    """
    devices = {parameter.device.type for group in groups for parameter in group.parameters}
    return torch.optim.AdamW(
        [
            {"params": list(g.parameters), "lr": g.lr, "top_lr": g.lr, "weight_decay": g.weight_decay}
            for g in groups
            if g.parameters
        ],
        fused=devices <= _FUSED,
    )


def schedule_factor(progress: float, warmup: float) -> float:
    """Share of the top rate at `progress` (0 to 1) of a stage: linear up over `warmup`, linear down."""
    if progress < warmup:
        return progress / warmup
    return max(0.0, (1.0 - progress) / (1.0 - warmup))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group to `factor` of its top."""
    for group in optimizer.param_groups:
        group["lr"] = group["top_lr"] * factor


def clip(parameters: Iterable[nn.Parameter], max_norm: float = 1.0) -> float:
    """Scale gradients down to `max_norm` over all of them; returns the norm before."""
    return float(nn.utils.clip_grad_norm_(list(parameters), max_norm, foreach=True))


def decay_groups(parameters: Sequence[nn.Parameter], lr: float, weight_decay: float) -> list[Group]:
    """Two groups: matrices decay, biases and norm parameters (one dimension) do not."""
    matrices = tuple(p for p in parameters if p.ndim > 1)
    return [Group(matrices, lr, weight_decay), Group(tuple(p for p in parameters if p.ndim <= 1), lr)]
