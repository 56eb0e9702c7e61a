"""Intrinsic-SAID: the whole backbone moves along a random projection of a few thousand numbers.

Aghajanyan et al., "Intrinsic Dimensionality Explains the Effectiveness of Language Model Fine-Tuning", ACL
2021, arXiv 2012.13255, structure-aware form, as compared with in Compacter (arXiv 2106.04647):
theta_i = theta0_i + lambda_i P_i(v) for every parameter tensor i of the model, P_i a Fastfood projection
drawn once, v at zero and all lambda at one. A budget of d numbers is split into v with d - (m + 1) and
lambda with m + 1, m tensors in all (the last lambda is not used, as in the official code).

Departures of the official code: its backward pass divides each tensor's gradient by the length of its
transform, which is not followed; its tied output layer keeps the pre-trained embedding while the input
embedding moves, here tied tensors move together (`tied="input"` is the other). There is no per-row form: such
a task runs in batches of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..errors import MethodError
from ..layers.fastfood import Fastfood, new_constants, padded_size
from ..weights import Named
from .base import METHODS, Method
from .exclusive import Weights
from .options import Whole

_MAX_SEED = 2**63


class Said(Weights):
    """`direction` [d - (m + 1)] and `scales` [m + 1]; the projections are drawn from `seed` when first used.

    With `stored` they are buffers and part of the file: `<tensor>.signs`, `.permutation`, `.gaussian`, each
    [L], for files whose projections come from elsewhere.
    """

    def __init__(
        self, model: Named, dimension: int, seed: int, *, stored: bool, kept: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self._kept = kept  # what stays as it is although it is tied to a tensor that moves
        self._frozen = {name: p.detach() for name, p in model.named_parameters()}
        self.direction = nn.Parameter(torch.zeros(dimension - len(self._frozen) - 1))
        self.scales = nn.Parameter(torch.ones(len(self._frozen) + 1))
        self._seed, self._stored = seed, stored
        self._projections: list[Fastfood] = []
        self._constants = _draw(self._frozen, seed) if stored else {}

    def forward(self) -> Mapping[str, Tensor]:
        if self._stored or not self._projections:
            self._projections = self._make_projections()
        moved = dict(self._kept)
        for scale, projection, (name, start) in zip(
            self.scales, self._projections, self._frozen.items(), strict=False
        ):
            moved[name] = start + (scale * projection(self.direction)).view_as(start).to(start.dtype)
        return moved

    def file_tensors(self) -> Mapping[str, Tensor]:
        """The two vectors, and the constants where they are stored."""
        return {"direction": self.direction, "scales": self.scales, **self._constants}

    def _make_projections(self) -> list[Fastfood]:
        inputs, made = self.direction.numel(), []
        for number, (name, frozen) in enumerate(self._frozen.items()):
            if self._stored:
                signs, places, gaussian = (self._constants[f"{name.lower()}.{part}"] for part in _PARTS)
                constants = signs, places.long(), gaussian
            else:
                constants = new_constants(frozen.numel(), _generator(self._seed, number))
            made.append(Fastfood.of(frozen.numel(), inputs, *constants).to(self.direction.device))
        return made


_PARTS = ("signs", "permutation", "gaussian")


def _generator(seed: int, number: int) -> torch.Generator:
    """One of its own per tensor, so that the projections do not depend on each other's sizes."""
    return torch.Generator().manual_seed((seed * 1_000_003 + number) % _MAX_SEED)


def _draw(frozen: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """All constants as float32 tensors, which hold permutations up to 2^24 exactly."""
    constants: dict[str, Tensor] = {}
    for number, (name, tensor) in enumerate(frozen.items()):
        drawn = new_constants(tensor.numel(), _generator(seed, number))
        constants |= {f"{name.lower()}.{p}": part.float() for p, part in zip(_PARTS, drawn, strict=True)}
    return constants


def _output_layer(model: Named) -> dict[str, Tensor]:
    """The output layer's weight, if it is tied to the embedding."""
    once = dict(model.named_parameters())
    every = dict(model.named_parameters(remove_duplicate=False))
    return {n: p.detach() for n, p in every.items() if n == "lm_head.weight" and n not in once}


@METHODS.add
@dataclass(frozen=True)
class IntrinsicSaid(Method):
    """Options: the budget d, the seed of the projections, whether the file holds them, and what moves."""

    name: ClassVar[str] = "intrinsic_said"
    paper: ClassVar[str] = "Aghajanyan et al. 2021, arXiv 2012.13255"

    dimension: Annotated[
        int,
        Whole(2),
        "a whole number above that of the backbone's tensors, at most that of its parameters",
    ] = 20_000
    projection_seed: Annotated[int, Whole(0, 2**31 - 1), "0 to 2147483647"] = 42
    projections: Literal["seed", "stored"] = "seed"
    tied: Literal["together", "input"] = "together"

    def weights(self, model: Named) -> Weights:
        """v at zero. Raises MethodError if the budget leaves nothing for it, or storing is inexact."""
        sizes = [p.numel() for p in model.parameters()]
        if self.dimension <= len(sizes) + 1:
            raise MethodError(
                f"method {self.name}: dimension is {self.dimension}; this backbone has {len(sizes)} tensors, "
                f"so it needs at least {len(sizes) + 2}"
            )
        if self.dimension > sum(sizes):
            raise MethodError(
                f"method {self.name}: dimension is {self.dimension}, more than the {sum(sizes)} numbers that "
                "it is to move; lower it"
            )
        if self.projections == "stored" and max(map(padded_size, sizes)) > 2**24:
            raise MethodError(
                f"method {self.name}: projections of a tensor of {max(sizes)} numbers cannot be stored "
                f"exactly (a permutation in float32 has at most {2**24} places); use projections=seed"
            )
        kept = _output_layer(model) if self.tied == "input" else {}
        stored = self.projections == "stored"
        return Said(model, self.dimension, self.projection_seed, stored=stored, kept=kept)
