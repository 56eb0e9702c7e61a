"""Every row op in a bank equals a loop over tokens, for every popularity of adapters in a batch."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from modeling import ServedModel
from tests.conformance import checks
from tests.tiny import random_texts, tiny_backbone

POPULARITIES = ["distinct", "uniform", "zipf", "identical", "skewed"]


def slots_by(popularity: str, rows: int, slots: int) -> list[int]:
    rng = random.Random(popularity)
    if popularity == "distinct":
        return list(range(1, rows + 1))
    if popularity == "identical":
        return [3] * rows
    if popularity == "skewed":
        return [1] * (rows - 1) + [2]
    weights = [1.0 if popularity == "uniform" else i**-1.5 for i in range(1, slots + 1)]
    return rng.choices(range(1, slots + 1), weights, k=rows)


@pytest.mark.parametrize("popularity", POPULARITIES)
@pytest.mark.parametrize("method", ["hadamard", "bitfit", "ia3", "ln_tuning"])
def test_bank_equals_a_loop(method: str, popularity: str) -> None:
    backbone = tiny_backbone("bert")
    served = ServedModel(backbone)
    adapters = [checks.trained(backbone, method, checks.SPECS[0], seed) for seed in range(12)]
    for adapter in adapters:
        served.install(adapter.pack())
    encoded = backbone.text.encode(random_texts(12, seed=4))
    slots = slots_by(popularity, 12, 12)
    got = served.run(encoded, slots, list(enumerate(slots)))
    for i, slot in enumerate(slots):
        want = checks.logits_alone(backbone, adapters[slot - 1], encoded[i])
        torch.testing.assert_close(torch.from_numpy(got[i]), want, **checks.TOLERANCE)


def test_norm_op_is_a_layer_norm_per_row() -> None:
    from modeling.ops import OPS

    torch.manual_seed(0)
    frozen = nn.LayerNorm(8)
    x, gain, bias = torch.randn(1, 5, 8), torch.randn(5, 8), torch.randn(5, 8)
    got: Tensor = OPS["norm"].apply(frozen, {"gain": gain, "bias": bias}, x, x)
    for t in range(5):
        want = layer_norm(x[0, t], (8,), gain[t], bias[t], frozen.eps)
        torch.testing.assert_close(got[0, t], want)
