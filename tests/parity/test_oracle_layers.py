"""Layers and adapter blocks reproduce what was recorded from the official code, gradients included.

Every file in the folder is tried, also one that was put there later; `fastfood.safetensors` holds transforms.
The files lie beside the public data sets and may not be passed on either.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from modeling.layers.fastfood import Fastfood, walsh_hadamard
from modeling.layers.phm import (
    Projection,
    kronecker_sum,
    new_dense,
    new_low_rank,
    new_lphm,
    new_phm,
    project,
)
from modeling.ops import OPS, Shared
from modeling.ops.block import Block, BlockOptions
from tests.conftest import SHARED_DATA

FOLDER = SHARED_DATA.parent / "oracles" / "compacter" / "layers"
FILES = sorted(path.stem for path in FOLDER.glob("*.safetensors")) or ["none"]
TRANSFORMS = "fastfood"
BLOCKS = [name for name in FILES if "_block_" in name] or ["none"]
SINGLE = [name for name in FILES if "_block_" not in name and name != TRANSFORMS]

# The official names of a projection's tensors, and ours.
NAMES = {
    "W": "weight",
    "weight": "weight",
    "W_left": "left",
    "W_right": "right",
    "b": "bias",
    "bias": "bias",
    "phm_rule": "rule",
    "phm_rule_left": "rule_left",
    "phm_rule_right": "rule_right",
}


@pytest.fixture
def folder(shared_data: Path) -> Path:
    """Where the recorded layers are."""
    if not FOLDER.is_dir():
        pytest.skip(f"no recorded layers at {FOLDER}, beside the public data sets")
    return FOLDER


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        meta: dict[str, Any] = json.loads(file.metadata()["meta"])
    return meta, load_file(path)


def near(got: Tensor, want: Tensor) -> None:
    """The tolerance the files come with."""
    assert got.shape == want.shape
    assert (got - want).abs().max() <= 1e-5 * max(1.0, want.abs().max().item())


def near_gradient(got: Tensor | None, want: Tensor, name: str) -> None:
    assert got is not None, name
    assert (got - want).abs().max() <= 1e-3 * want.abs().max() + 1e-7, name


def made_here(shape: tuple[int, int], w: Mapping[str, Tensor]) -> nn.Module:
    """A new projection of the recorded kind."""
    if "weight" in w:
        return new_dense(*shape)
    if "W" in w:
        return new_phm(*shape, len(w["W"]), factorised_rule="phm_rule_left" in w)
    left = w["W_left"]
    rank = left.shape[-1]
    return new_low_rank(*shape, rank) if left.dim() == 2 else new_lphm(*shape, len(left), rank)


def recorded_projection(shape: tuple[int, int], w: Mapping[str, Tensor]) -> Projection:
    """The recorded tensors by our names; a new projection has just these shapes.

    It always has a bias, and an LPHM's rule is shared here: the official code has both as options.
    """
    ours = {NAMES[name]: nn.Parameter(value.clone()) for name, value in w.items()}
    made = dict(made_here(shape, w).named_parameters())
    assert ours.keys() ^ made.keys() <= {"bias", "rule", "rule_left", "rule_right"}
    for name in ours.keys() & made.keys():
        assert ours[name].shape == made[name].shape
    return Projection(ours)


def applied(layer: nn.Module, x: Tensor) -> Tensor:
    """x [..., in] -> [..., out]."""
    parts = {name: parameter[None] for name, parameter in layer.named_parameters()}
    return project(parts, x.reshape(1, -1, x.shape[-1])).view(*x.shape[:-1], -1)


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def multiplied_out(module: nn.Module, shared: Mapping[str, Tensor]) -> Tensor:
    """The matrix [in, out] that the module stands for, from its parameters."""
    parts = dict(module.named_parameters()) | dict(shared)
    rule = parts.get("rule")
    if "rule_left" in parts:
        rule = parts["rule_left"] @ parts["rule_right"]
    weight = parts["left"] @ parts["right"] if "left" in parts else parts["weight"]
    if rule is None:
        return weight if "left" in parts else weight.mT
    return kronecker_sum(rule, weight)


@pytest.mark.parametrize("name", SINGLE)
def test_a_layer_is_the_recorded_one(folder: Path, name: str) -> None:
    _, tensors = read(folder / f"{name}.safetensors")
    wide_in, wide_out = tensors["H"].shape
    layer = recorded_projection((wide_in, wide_out), below(tensors, "w."))
    x = tensors["x"].clone().requires_grad_()
    y = applied(layer, x)
    near(y, tensors["y"])
    near(multiplied_out(layer, {}), tensors["H"])
    (y * tensors["gy"]).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    near_gradient(x.grad, tensors["grad.x"], "x")
    for official, want in below(tensors, "grad.").items():
        if official != "x":
            near_gradient(layer.get_parameter(NAMES[official]).grad, want, official)


class Recorded:
    """Two blocks, one after the other, with the recorded weights; what they share belongs to neither."""

    def __init__(self, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        w = below(tensors, "w.")
        self.shared = {NAMES[n]: nn.Parameter(t.clone()) for n, t in w.items() if not n.startswith("c.")}
        self.places: dict[str, nn.Parameter] = {}  # the file's name of each tensor -> our parameter
        for official, ours in NAMES.items():
            if official in w:
                self.places[official] = self.shared[ours]
        self.blocks = [self._block(meta, below(w, f"c.{i}."), f"c.{i}.", tensors) for i in range(2)]

    def _block(
        self, meta: Mapping[str, Any], w: dict[str, Tensor], place: str, tensors: Mapping[str, Tensor]
    ) -> Block:
        wide, narrow = tensors["H.down"].shape
        projections = {}
        for name, shape in (("down", (wide, narrow)), ("up", (narrow, wide))):
            prefix = f"adapters.task.{name}_sampler."
            own = below(w, prefix)
            projections[name] = recorded_projection(shape, own)
            for official in own:
                self.places[f"{place}{prefix}{official}"] = projections[name].get_parameter(NAMES[official])
        block = Block(
            projections["down"],
            projections["up"],
            wide,
            BlockOptions(
                activation=meta["act"],
                pre_norm="pre_layer_norm.weight" in w,
                post_norm="post_layer_norm.weight" in w,
            ),
            shared={
                f"{side}.{part}": (part, value)
                for part, value in self.shared.items()
                for side in ("down", "up")
            },
        )
        for side in ("pre", "post"):
            for ours, theirs in (("gain", "weight"), ("bias", "bias")):
                if f"{side}_layer_norm.{theirs}" in w:
                    parameter = block.get_parameter(f"{side}.{ours}")
                    parameter.data.copy_(w[f"{side}_layer_norm.{theirs}"])
                    self.places[f"{place}{side}_layer_norm.{theirs}"] = parameter
        return block


@pytest.mark.parametrize("name", BLOCKS)
def test_two_blocks_in_a_row_are_the_recorded_ones(folder: Path, name: str) -> None:
    meta, tensors = read(folder / f"{name}.safetensors")
    recorded = Recorded(meta, tensors)
    assert sum(p.numel() for p in recorded.places.values()) == meta["n_params"]
    assert set(recorded.places) == set(below(tensors, "w."))
    first, second = recorded.blocks
    x = tensors["x"].clone().requires_grad_()
    y1 = first(x, x)
    y2 = second(y1, y1)
    near(y1, tensors["y1"])
    near(y2, tensors["y2"])
    (y2 * tensors["gy"]).sum().backward()
    near_gradient(x.grad, tensors["grad.x"], "x")
    for official, parameter in recorded.places.items():
        near_gradient(parameter.grad, tensors[f"grad.{official}"], official)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_inside_of_the_first_block_is_the_recorded_one(folder: Path, name: str) -> None:
    meta, tensors = read(folder / f"{name}.safetensors")
    recorded = Recorded(meta, tensors)
    block = recorded.blocks[0]
    for side, given, want in (("down", "x", "down"), ("up", "act", "up")):
        module = block.get_submodule(side)
        near(multiplied_out(module, recorded.shared), tensors[f"H.{side}"])
        if given == "x" and "w.c.0.pre_layer_norm.weight" in tensors:
            continue  # the recorded input of that projection is the norm's output, which is not in the file
        parts = dict(module.named_parameters()) | recorded.shared
        near(project({n: p[None] for n, p in parts.items()}, tensors[given]), tensors[want])


@pytest.mark.parametrize("name", BLOCKS)
def test_the_row_op_gives_each_row_its_own_block(folder: Path, name: str) -> None:
    """Serving form: row 0 under the first block, row 1 under the second, in one call."""
    meta, tensors = read(folder / f"{name}.safetensors")
    recorded = Recorded(meta, tensors)
    packed = [block.pack() for block in recorded.blocks]
    rows = [
        {n: recorded.shared[p.name].detach() if isinstance(p, Shared) else p for n, p in one.parts.items()}
        for one in packed
    ]
    parts = {n: torch.stack([row[n] for row in rows]) for n in rows[0]}
    x = tensors["x"]
    got = OPS[packed[0].op].apply(nn.Identity(), parts, packed[0].static, x, x)
    for row, block in enumerate(recorded.blocks):
        near(got[row], block(x[row : row + 1], x[row : row + 1])[0])


def test_walsh_hadamard_is_the_recorded_one(folder: Path) -> None:
    _, tensors = read(folder / f"{TRANSFORMS}.safetensors")
    y = walsh_hadamard(tensors["fwht.x"])
    near(y, tensors["fwht.y"])
    near(y / math.sqrt(len(y)), tensors["fwht.y_norm"])


def test_fastfood_is_the_recorded_one_with_the_true_gradient(folder: Path) -> None:
    _, tensors = read(folder / f"{TRANSFORMS}.safetensors")
    cases = {name.partition(".")[0] for name in tensors if name.startswith("D")}
    assert cases
    for case in cases:
        t = below(tensors, f"{case}.")
        x = t["x"].clone().requires_grad_()
        y = Fastfood.of(len(t["y"]), len(x), t["B"], t["Pi"], t["G"])(x)
        near(y, t["y"])
        (y * t["gy"]).sum().backward()  # type: ignore[no-untyped-call]
        near_gradient(x.grad, t["grad.x_true"], case)
        # What the official backward pass gives is something else: the true gradient over L.
        assert x.grad is not None
        torch.testing.assert_close(x.grad / len(t["G"]), t["grad.x_official"], rtol=1e-3, atol=1e-6)
