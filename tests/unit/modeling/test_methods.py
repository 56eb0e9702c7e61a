"""Configurations of methods: what is understood, what is refused and how."""

from __future__ import annotations

from typing import Any

import pytest

from modeling import METHODS, Adapter, AdapterError, HeadSpec, MethodError, UnknownNameError
from modeling.methods.options import select_layers
from tests.tiny import tiny_backbone


@pytest.mark.parametrize(
    ("layers", "count", "chosen"),
    [
        ("all", 3, {0, 1, 2}),
        ("last-two-thirds", 12, set(range(4, 12))),
        ("last-two-thirds", 24, set(range(8, 24))),
        ("last-two-thirds", 6, {2, 3, 4, 5}),
        ("4-11", 12, set(range(4, 12))),
        ("0,2,4-5", 6, {0, 2, 4, 5}),
        ([1, 3], 6, {1, 3}),
        (2, 6, {2}),
    ],
)
def test_layers(layers: Any, count: int, chosen: set[int]) -> None:
    assert select_layers(layers, count) == chosen


@pytest.mark.parametrize(
    "layers",
    ["5-2", "first", "1;2", "", 1.5, [0, "1"], [True], "-1", "0-1000000", "0-99999999999", "9" * 5000],
)
def test_layers_that_mean_nothing_are_refused(layers: Any) -> None:
    with pytest.raises(MethodError, match="method hadamard: layers .* give a list"):
        METHODS["hadamard"].from_config({"layers": layers})


def test_layers_beyond_the_backbone_are_refused_by_name() -> None:
    with pytest.raises(MethodError, match="layers 0 to 5, not 6, 7"):
        select_layers("4-7", 6)
    with pytest.raises(MethodError, match="at least one"):
        select_layers([], 6)


def test_many_layers_beyond_are_not_all_listed() -> None:
    with pytest.raises(MethodError, match="not 6, 7, 8, 9, 10, 11, 12, 13 and 986 more") as error:
        select_layers("0-999", 6)
    assert len(str(error.value)) < 200


def test_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(MethodError, match="unknown option rank; its options are: layers, norm, placement"):
        METHODS["hadamard"].from_config({"rank": 3})
    with pytest.raises(MethodError, match="its options are: none"):
        METHODS["linear_probe"].from_config({"layers": "all"})


@pytest.mark.parametrize("config", [{"placement": "before"}, {"norm": "all"}])
def test_value_out_of_the_list_is_refused(config: dict[str, str]) -> None:
    with pytest.raises(MethodError, match="allowed: "):
        METHODS["hadamard"].from_config(config)


def test_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownNameError, match="unknown method 'lora2'; known: .*bitfit, .*hadamard"
    ) as error:
        METHODS["lora2"]
    assert str(error.value).startswith("unknown method")


@pytest.mark.parametrize("name", METHODS)
def test_config_round_trip(name: str) -> None:
    method = METHODS[name].from_config({})
    assert METHODS[name].from_config(method.config()) == method


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({}, {"encoder.1.attn_context/scale", "encoder.1.attn_norm/gain"}),
        ({"placement": "post_dense"}, {"encoder.1.attn_out/scale", "encoder.1.attn_norm/gain"}),
        ({"norm": "output"}, {"encoder.1.attn_context/shift", "encoder.1.ffn_norm/bias"}),
        ({"norm": "both"}, {"encoder.1.attn_norm/gain", "encoder.1.ffn_norm/gain"}),
    ],
)
def test_hadamard_switches_choose_the_tensors(config: dict[str, str], names: set[str]) -> None:
    backbone = tiny_backbone("bert")
    method = METHODS["hadamard"].from_config(config | {"layers": [1]})
    tensors = Adapter.create(backbone, method, HeadSpec("regression", ("v",))).to_tensors()
    assert names <= set(tensors)
    assert not [name for name in tensors if name.startswith("encoder.0")]
    assert len(tensors) == {"both": 6}.get(config.get("norm", ""), 4) + 2


def test_layers_of_a_deeper_backbone_are_a_failure_of_the_adapter() -> None:
    method = METHODS["hadamard"].from_config({"layers": "0-11"})
    with pytest.raises(AdapterError) as error:
        Adapter.create(tiny_backbone("bert"), method, HeadSpec("nonsense", ("a",), pooling="max"))
    assert [f.field for f in error.value.failures] == ["head.kind", "head.pooling", "method.config.layers"]
