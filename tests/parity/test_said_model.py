"""Intrinsic-SAID on a whole T5 against its formula, in dense matrices on the library's own model.

Aghajanyan et al. 2021 as compared with in Compacter (arXiv 2106.04647); constants as the official code keeps
them (B, Pi and G of each tensor), and its choice that the tied output layer stays while the embedding moves.
"""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from modeling import METHODS, Adapter, HeadSpec, ServedModel, decoding
from tests.tiny import CONFIGS, random_backbone, random_model, random_texts

SPEC = HeadSpec("text_to_text", ("w1", "w2 w3"), pooling="none")
DIMENSION = 300
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


def hadamard(order: int) -> Tensor:
    matrix = torch.ones(1, 1)
    while len(matrix) < order:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def projected(v: Tensor, size: int, constants: dict[str, Tensor]) -> Tensor:
    """y = H(G * (H(B * pad(v)))[Pi])[:D] / (sqrt(L * sum G^2) * sqrt(D / L)), term by term."""
    length = len(constants["G"])
    matrix = hadamard(length)
    padded = torch.zeros(length).index_copy(0, torch.arange(len(v))[:length], v[:length])
    mixed = (matrix @ (constants["B"] * padded))[constants["Pi"]]
    divisor = math.sqrt(length * float(constants["G"].square().sum()))
    return (matrix @ (constants["G"] * mixed))[:size] / (divisor * math.sqrt(size / length))


class Reference:
    """The library's model with theta_i = theta0_i + lambda_i P_i(v), the output layer left alone or not."""

    def __init__(self, tied: str) -> None:
        self.model = random_model(CONFIGS["t5"])
        self.names = [name for name, _ in self.model.named_parameters()]
        generator = torch.Generator().manual_seed(7)
        self.constants = {}
        for name, parameter in self.model.named_parameters():
            length = 2 ** math.ceil(math.log2(parameter.numel()))
            self.constants[name] = {
                "B": torch.randint(2, (length,), generator=generator) * 2 - 1,
                "Pi": torch.randperm(length, generator=generator),
                "G": torch.randn(length, generator=generator),
            }
        self.v = (0.5 * torch.randn(DIMENSION - len(self.names) - 1, generator=generator)).requires_grad_()
        self.scales = (1 + 0.3 * torch.randn(len(self.names) + 1, generator=generator)).requires_grad_()
        self.tied = tied

    def loss(self, **inputs: Tensor) -> Tensor:
        """Cross-entropy of the labels."""
        moved: dict[str, Tensor] = {}
        for scale, (name, parameter) in zip(self.scales, self.model.named_parameters(), strict=False):
            step = projected(self.v, parameter.numel(), self.constants[name]).view_as(parameter)
            moved[name] = parameter.detach() + scale * step
        embedding = moved.pop("shared.weight")
        for place in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"):
            moved[f"{place}.weight"] = embedding
        kept = self.model.get_parameter("shared.weight").detach()
        moved["lm_head.weight"] = kept if self.tied == "input" else embedding
        output: Any = functional_call(self.model, moved, kwargs=inputs, tie_weights=False)
        loss: Tensor = output.loss
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """What an adapter file would hold."""
        named = {"weights/direction": self.v.detach(), "weights/scales": self.scales.detach()}
        for name, constants in self.constants.items():
            for ours, theirs in (("signs", "B"), ("permutation", "Pi"), ("gaussian", "G")):
                named[f"weights/{name.lower()}.{ours}"] = constants[theirs].float()
        return named


@pytest.mark.parametrize("tied", ["input", "together"])
def test_loss_gradients_and_five_steps(tied: str) -> None:
    reference, backbone = Reference(tied), random_backbone(CONFIGS["t5"])
    options = {"dimension": DIMENSION, "projections": "stored", "tied": tied}
    method = METHODS["intrinsic_said"].from_config(options)
    adapter = Adapter.from_tensors(backbone, method, SPEC, reference.tensors())
    encoded = backbone.text.encode(random_texts(4, seed=3)[1:])
    targets = [[5, 7, 1], [9, 1], [4, 3, 8, 1]]
    longest = max(map(len, encoded))
    inputs = {
        "input_ids": torch.tensor([e.ids + [0] * (longest - len(e)) for e in encoded]),
        "attention_mask": torch.tensor([[1] * len(e) + [0] * (longest - len(e)) for e in encoded]),
        "labels": torch.tensor([t + [-100] * (4 - len(t)) for t in targets]),
    }
    ours = adapter.body_parameters()
    assert [p.shape for p in ours] == [reference.v.shape, reference.scales.shape]
    optimizers = [
        torch.optim.AdamW(p, lr=0.003, weight_decay=0.0) for p in (ours, [reference.v, reference.scales])
    ]
    with adapter.attached(backbone):
        for step in range(6):  # rounding grows from step to step
            got = decoding.target_loss(backbone, backbone.pack(encoded), targets)
            want = reference.loss(**inputs)
            torch.testing.assert_close(got, want, **TOLERANCE)
            for optimizer, loss in zip(optimizers, (got, want), strict=True):
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            for mine, theirs in zip(ours, (reference.v, reference.scales), strict=True) if step == 0 else ():
                assert mine.grad is not None
                assert theirs.grad is not None
                scale = float(theirs.grad.abs().max())
                torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-3 * scale)
            for optimizer in optimizers:
                optimizer.step()
    served = ServedModel(backbone)
    slot = served.install(deepcopy(adapter).pack())
    with adapter.attached(backbone), torch.no_grad():
        alone = decoding.label_logits(backbone, backbone.pack(encoded), backbone.label_ids(SPEC.labels))
    rows = served.run(encoded, [slot] * 3, [(i, slot) for i in range(3)])
    torch.testing.assert_close(torch.stack([torch.from_numpy(row) for row in rows]), alone, **TOLERANCE)
