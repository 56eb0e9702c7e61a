"""The schedule, the groups and the clipping."""

import pytest
import torch
from torch import nn

from training.loop.optim import Group, build_optimizer, clip, decay_groups, schedule_factor, set_learning_rate


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero() -> None:
    assert schedule_factor(0.03, 0.06) == pytest.approx(0.5)
    assert schedule_factor(0.06, 0.06) == pytest.approx(1.0)
    assert schedule_factor(0.53, 0.06) == pytest.approx(0.5)
    assert schedule_factor(1.0, 0.06) == 0.0
    assert schedule_factor(0.0, 0.0) == 1.0


def test_every_group_keeps_its_own_top() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([Group((a,), 0.1), Group((b,), 0.01, 0.5), Group((), 1.0)])
    set_learning_rate(optimizer, 0.5)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.0025]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.5]


def test_gradients_are_clipped_over_all_parameters_together() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip([a, b]) == pytest.approx(5.0)
    assert [float(a.grad), float(b.grad)] == pytest.approx([0.6, 0.8], abs=1e-5)


def test_matrices_decay_and_vectors_do_not() -> None:
    layer = nn.Linear(2, 3)
    matrices, vectors = decay_groups(list(layer.parameters()), 0.1, 0.01)
    assert [p.ndim for p in matrices.parameters] == [2]
    assert [p.ndim for p in vectors.parameters] == [1]
    assert (matrices.weight_decay, vectors.weight_decay) == (0.01, 0.0)
