"""Adapters of tensors: nothing is drawn, nothing stays without a value, a mould casts what modules pack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from modeling import METHODS, Adapter, AdapterError, Backbone, HeadSpec, Moulds, PackedAdapter
from modeling.methods.hadamard import Hadamard
from modeling.ops import Shared, TapModule
from modeling.ops.affine import Affine
from modeling.sites import Tap
from tests.conformance.checks import exclusive, trained
from tests.conformance.options import tiny_options
from tests.tiny import tiny_backbone

SPEC = HeadSpec("single_label", ("no", "yes"))


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory that nobody has written holds NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # the library's default
    yield
    torch.use_deterministic_algorithms(False)


def flat(packed: PackedAdapter) -> dict[str, object]:
    """Everything in a serving form but an exclusive method's module, by name."""
    found: dict[str, object] = {"head": packed.head_weight, "bias": packed.head_bias, "spec": packed.spec}
    found |= {f"shared/{name}": tensor for name, tensor in packed.shared.items()}
    found["virtual"] = packed.virtual_tokens
    for tap, one in packed.body.items():
        found[f"{tap.key} op"] = one.op, one.static
        found |= {f"{tap.key}/{name}": part for name, part in one.parts.items()}
    return found


def same(one: PackedAdapter, other: PackedAdapter) -> bool:
    left, right = flat(one), flat(other)
    return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return one == other or (isinstance(one, Shared) and one == other)


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_of_tensors_is_those_tensors(method: str, poisoned: None) -> None:
    backbone = tiny_backbone("bert")
    adapter = trained(backbone, method, SPEC, 5)
    state = torch.random.get_rng_state()
    again = Adapter.from_tensors(backbone, adapter.method, SPEC, adapter.to_tensors())
    assert torch.equal(torch.random.get_rng_state(), state)
    wanted, got = adapter.to_tensors(), again.to_tensors()
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)
    assert same(again.pack(), adapter.pack())
    assert all(parameter.requires_grad for parameter in again.body_parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_mould_casts_what_an_adapter_packs_file_after_file(method: str, poisoned: None) -> None:
    backbone = tiny_backbone("bert")
    moulds = Moulds(backbone)
    specs = [SPEC, HeadSpec("single_label", ("a", "b", "c"))]
    adapters = [trained(backbone, method, spec, seed) for seed, spec in enumerate(specs * 2)]
    files = [adapter.to_tensors() for adapter in adapters]
    cast = [moulds.cast(one.method, one.spec, tensors) for one, tensors in zip(adapters, files, strict=True)]
    for adapter, packed in zip(adapters, cast, strict=True):  # the first too, after the last was cast
        assert same(packed, adapter.pack())
        assert (packed.weights is not None) == exclusive(method)


def test_a_shared_rule_and_a_decoders_taps_are_cast(poisoned: None) -> None:
    backbone = tiny_backbone("t5")
    moulds = Moulds(backbone)
    spec = HeadSpec("text_to_text", ("w1", "w2 w3"), pooling="none")
    for method in ("compacter", "bitfit"):
        adapter = trained(backbone, method, spec, 3)
        assert same(moulds.cast(adapter.method, spec, adapter.to_tensors()), adapter.pack())


def test_what_does_not_fit_a_mould_is_refused_with_every_difference() -> None:
    backbone = tiny_backbone("bert")
    moulds, method = Moulds(backbone), METHODS["hadamard"].from_config({})
    tensors = Adapter.create(backbone, method, SPEC).to_tensors()
    moulds.cast(method, SPEC, tensors)
    scale = "encoder.0.attn_context/scale"
    wrong = {
        name: tensor[:-1] if name == scale else tensor
        for name, tensor in tensors.items()
        if name != "head/bias"
    }
    with pytest.raises(AdapterError) as error:
        moulds.cast(method, SPEC, wrong)
    assert [failure.field for failure in error.value.failures] == ["head/bias", scale]
    with pytest.raises(AdapterError, match="head/weight"):
        moulds.cast(method, HeadSpec("single_label", ("a", "b", "c")), tensors)
    with pytest.raises(AdapterError, match="pooling"):
        moulds.cast(method, HeadSpec("single_label", ("no", "yes"), pooling="eos"), tensors)


class Halved(Affine):
    """Has a constant that no file holds."""

    def __init__(self, width: int) -> None:
        super().__init__(width, scale=True, shift=False)
        self.factor: Tensor
        self.register_buffer("factor", torch.full((width,), 0.5))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x, y) * self.factor


@dataclass(frozen=True)
class WithConstant(Hadamard):
    """Not registered."""

    def build(self, tap: Tap, frozen: nn.Module, shared: object) -> TapModule:
        return Halved(tap.width)


def test_a_constant_of_a_module_keeps_its_value(poisoned: None) -> None:
    backbone: Backbone = tiny_backbone("bert")
    method = WithConstant(norm="none")
    adapter = Adapter.create(backbone, method, SPEC)
    again = Adapter.from_tensors(backbone, method, SPEC, adapter.to_tensors())
    for module in again.body.values():
        assert isinstance(module, Halved)
        assert module.factor.tolist() == [0.5] * len(module.factor)


def test_tied_parameters_stay_one() -> None:
    class Tied(Affine):
        def __init__(self, width: int) -> None:
            super().__init__(width, scale=True, shift=False)
            self.again = self.scale

    @dataclass(frozen=True)
    class WithTied(Hadamard):
        def build(self, tap: Tap, frozen: nn.Module, shared: object) -> TapModule:
            return Tied(tap.width)

    backbone, method = tiny_backbone("bert"), WithTied(norm="none")
    adapter = Adapter.create(backbone, method, SPEC)
    tensors = adapter.to_tensors()
    for module in Adapter.from_tensors(backbone, method, SPEC, tensors).body.values():
        assert isinstance(module, Tied)
        assert module.scale is module.again


def test_options_fit_tiny_backbones() -> None:
    """The tests above mean something only if they see every method."""
    assert set(METHODS) >= {"hadamard", "lora", "compacter", "full", "intrinsic_said"}
    assert all(tiny_options(method) is not None for method in METHODS)
