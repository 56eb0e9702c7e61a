"""Adapter blocks on a backbone: where they sit, their tensors' names, the serving form of every option."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from modeling import METHODS, Adapter, AdapterError, Backbone, ServedModel
from tests.conformance import checks
from tests.conformance.options import TINY_OPTIONS
from tests.tiny import random_texts, tiny_backbone

BLOCKS = ["houlsby", "pfeiffer", "adapter_drop", "low_rank_adapter", "phm", "compacter", "compacter_pp"]
PLACES = {
    "houlsby": {"attn_out", "ffn_out"},
    "pfeiffer": {"attn_out"},
    "adapter_drop": {"attn_out", "ffn_out"},
    "low_rank_adapter": {"attn_out", "ffn_out"},
    "phm": {"attn_out", "ffn_out"},
    "compacter": {"attn_out", "ffn_out"},
    "compacter_pp": {"ffn_out"},
}
T5_NORMS = {
    *(f"encoder.{i}.{site}" for i in range(2) for site in ("attn_norm", "ffn_norm")),
    *(f"decoder.{i}.{site}" for i in range(2) for site in ("attn_norm", "ffn_norm")),
    *(f"cross.{i}.attn_norm" for i in range(2)),
    *(f"{stack}.final_norm" for stack in ("encoder", "decoder")),
}


def new(backbone: Backbone, method: str, **options: Any) -> Adapter:
    return checks.new(backbone, method, checks.specs(backbone)[0], config=TINY_OPTIONS[method] | options)


@pytest.mark.parametrize("method", BLOCKS)
def test_blocks_sit_in_both_stacks_never_on_cross_attention_and_every_norm_is_trained(method: str) -> None:
    keys = {tap.key for tap in new(tiny_backbone("t5"), method).body}
    layers = [1] if method == "adapter_drop" else [0, 1]
    blocks = {
        f"{stack}.{i}.{site}" for stack in ("encoder", "decoder") for i in layers for site in PLACES[method]
    }
    assert keys == blocks | T5_NORMS
    without = {tap.key for tap in new(tiny_backbone("t5"), method, train_norms=False).body}
    assert without == blocks


def test_pfeiffers_own_place_is_one_switch() -> None:
    keys = {t.key for t in new(tiny_backbone("bert"), "pfeiffer", placement="feed_forward").body}
    assert {k for k in keys if "out" in k} == {"encoder.0.ffn_out", "encoder.1.ffn_out"}


PROJECTIONS: dict[str, dict[str, tuple[int, ...]]] = {
    "houlsby": {"down.weight": (8, 32), "up.weight": (32, 8)},
    "low_rank_adapter": {"down.left": (32, 1), "down.right": (1, 8), "up.left": (8, 1), "up.right": (1, 32)},
    "phm": {
        "down.weight": (4, 8, 2),
        "down.rule": (4, 4, 4),
        "up.weight": (4, 2, 8),
        "up.rule": (4, 4, 4),
    },
    "compacter": {
        "down.left": (4, 8, 1),
        "down.right": (4, 1, 2),
        "up.left": (4, 2, 1),
        "up.right": (4, 1, 8),
    },
}


@pytest.mark.parametrize("method", PROJECTIONS)
def test_names_and_shapes_in_the_file(method: str) -> None:
    tensors = new(tiny_backbone("bert"), method, pre_norm=True).to_tensors()
    start = "encoder.1.ffn_out/"
    found = {n.removeprefix(start): tuple(t.shape) for n, t in tensors.items() if n.startswith(start)}
    norms = {"pre.gain": (32,), "pre.bias": (32,)}
    assert found == PROJECTIONS[method] | {"down.bias": (8,), "up.bias": (32,)} | norms
    shared = {n: tuple(t.shape) for n, t in tensors.items() if n.startswith("shared/")}
    assert shared == ({"shared/phm_rule": (4, 4, 4)} if method == "compacter" else {})


def test_names_of_shared_factors_and_factorised_rules() -> None:
    backbone = tiny_backbone("bert")
    tensors = new(backbone, "compacter", share_factors=True, factorised_rule=True).to_tensors()
    assert {n for n in tensors if n.startswith("shared/")} == {
        "shared/phm_rule_left",
        "shared/phm_rule_right",
        "shared/down.left",
        "shared/down.right",
        "shared/up.left",
        "shared/up.right",
    }
    assert {n for n in tensors if n.startswith("encoder.0.attn_out")} == {
        "encoder.0.attn_out/down.bias",
        "encoder.0.attn_out/up.bias",
    }
    own = new(backbone, "phm", factorised_rule=True).to_tensors()
    assert own["encoder.0.attn_out/down.rule_left"].shape == (4, 4, 1)
    assert own["encoder.0.attn_out/up.rule_right"].shape == (4, 1, 4)


FORMS: list[tuple[str, dict[str, Any]]] = [
    ("houlsby", {"pre_norm": True, "post_norm": True, "activation": "swish"}),
    ("pfeiffer", {"placement": "feed_forward", "activation": "relu"}),
    ("adapter_drop", {"train_norms": False}),
    ("low_rank_adapter", {"rank": 3, "layers": "1"}),
    ("phm", {"division": 8, "factorised_rule": True}),
    ("compacter", {"share_factors": True, "rank": 2, "pre_norm": True}),
    ("compacter_pp", {"factorised_rule": True, "division": 2}),
    ("lora", {"rank": 2, "alpha": 3.5, "layers": [0]}),
]


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_every_form_in_one_mixed_batch_equals_each_alone_also_after_a_round_trip(family: str) -> None:
    backbone = tiny_backbone(family)
    specs = checks.specs(backbone)
    encoded = checks.encode(backbone, random_texts(len(FORMS), seed=8))
    served, slots, want = ServedModel(backbone), [], []
    for i, (method, options) in enumerate(FORMS):
        spec, config = specs[i % len(specs)], TINY_OPTIONS[method] | options
        adapter = checks.trained(backbone, method, spec, i, config)
        again = METHODS[method].from_config(adapter.method.config())
        loaded = Adapter.from_tensors(backbone, again, spec, adapter.to_tensors())
        want.append(checks.logits_alone(backbone, adapter, encoded[i]))
        slots.append(served.install(loaded.pack()))
    got = served.run(encoded, [served.placement(slot).body_slot for slot in slots], list(enumerate(slots)))
    for have, wanted, (method, _) in zip(got, want, FORMS, strict=True):
        torch.testing.assert_close(torch.from_numpy(have), wanted, **checks.TOLERANCE, msg=method)


def test_a_new_compacter_is_all_but_the_identity_and_its_rule_is_one_tensor() -> None:
    backbone = tiny_backbone("bert")
    adapter = new(backbone, "compacter")
    assert [id(p) for p in adapter.body_parameters()].count(id(adapter.shared["phm_rule"])) == 1
    x = torch.randn(1, 6, 32)
    for tap, module in adapter.body.items():
        if tap.site == "ffn_out":
            assert 0 < (module(x, x) - x).abs().max() < 1e-5


def test_a_division_that_does_not_fit_names_widths_and_divisors() -> None:
    with pytest.raises(
        AdapterError, match="at encoder.0.attn_out the width is 32 and the bottleneck 8"
    ) as info:
        new(tiny_backbone("bert"), "compacter", division=3)
    assert "these do: 1, 2, 4, 8" in str(info.value)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("compacter", {"rank": 3}),
        ("compacter_pp", {"rank": 10**9, "share_factors": True}),
        ("low_rank_adapter", {"rank": 9}),
    ],
)
def test_a_rank_that_adds_nothing_is_refused(method: str, options: dict[str, Any]) -> None:
    """Bottleneck 8 over division 4 leaves factors of rank 2; a low-rank projection to 8 has rank 8."""
    with pytest.raises(AdapterError, match="the factors are of rank"):
        new(tiny_backbone("bert"), method, **options)
