"""Every row op in a bank equals a loop over tokens, for every popularity of adapters in a batch."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from modeling import METHODS, Site, Tap
from modeling.ops import OPS, PackedTap, Shared, TapModule
from tests.conformance import checks
from tests.conformance.options import TINY_OPTIONS
from tests.tiny import random_texts, tiny_backbone

POPULARITIES = ["distinct", "uniform", "zipf", "identical", "skewed"]
VECTOR_OPS = ["hadamard", "bitfit", "ia3", "ln_tuning"]
MATRIX_OPS = ["houlsby", "low_rank_adapter", "phm", "compacter", "lora"]


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
@pytest.mark.parametrize("method", [*VECTOR_OPS, *MATRIX_OPS])
def test_bank_equals_a_loop(method: str, popularity: str) -> None:
    backbone = tiny_backbone("bert")
    adapters = [checks.trained(backbone, method, checks.SPECS[0], seed) for seed in range(12)]
    encoded = backbone.text.encode(random_texts(12, seed=4))
    slots = slots_by(popularity, 12, 12)
    want = [checks.logits_alone(backbone, adapters[s - 1], e) for s, e in zip(slots, encoded, strict=True)]
    for served in checks.served_models(backbone):
        for adapter in adapters:
            served.install(adapter.pack())
        got = served.run(encoded, slots, list(enumerate(slots)))
        for mine, reference in zip(got, want, strict=True):
            torch.testing.assert_close(torch.from_numpy(mine), reference, **checks.TOLERANCE)


def test_norm_op_is_a_layer_norm_per_row() -> None:
    torch.manual_seed(0)
    frozen = nn.LayerNorm(8)
    x, gain, bias = torch.randn(1, 5, 8), torch.randn(5, 8), torch.randn(5, 8)
    got: Tensor = OPS["norm"].apply(frozen, {"gain": gain, "bias": bias}, (), x, x)
    for t in range(5):
        want = layer_norm(x[0, t], (8,), gain[t], bias[t], frozen.eps)
        torch.testing.assert_close(got[0, t], want)


_BLOCK = Tap(Site.ATTN_OUT, "encoder", 0, "x", "out", 24, 24)
_QUERY = Tap(Site.ATTN_Q, "encoder", 0, "x", "out", 24, 40)
FORMS: list[tuple[str, dict[str, Any]]] = [
    ("houlsby", {}),
    ("houlsby", {"pre_norm": True, "post_norm": True, "activation": "swish"}),
    ("pfeiffer", {"post_norm": True, "activation": "relu"}),
    ("low_rank_adapter", {"rank": 3, "activation": "gelu"}),
    ("phm", {"pre_norm": True}),
    ("phm", {"division": 2, "factorised_rule": True}),
    ("compacter", {}),
    ("compacter", {"rank": 2, "share_factors": True, "post_norm": True}),
    ("compacter_pp", {"division": 8, "factorised_rule": True}),
    ("lora", {}),
]


def built(method: str, options: dict[str, Any], seed: int) -> tuple[TapModule, PackedTap, dict[str, Tensor]]:
    """A module with moved parameters at a tap of width 24, its serving form, and all of its parts."""
    torch.manual_seed(seed)
    made = METHODS[method].from_config(TINY_OPTIONS[method] | options)
    tap = _QUERY if method == "lora" else _BLOCK
    shared = made.share([tap])
    module = made.build(tap, nn.Identity(), shared)
    with torch.no_grad():
        for parameter in [*module.parameters(), *shared.values()]:
            parameter.add_(0.3 * torch.randn(parameter.shape))
    packed = module.pack()
    parts = {n: shared[p.name].detach() if isinstance(p, Shared) else p for n, p in packed.parts.items()}
    return module, packed, parts


@pytest.mark.parametrize(("method", "options"), FORMS)
@pytest.mark.parametrize("tokens", [1, 5, 90])
def test_matrix_op_on_rows_equals_each_training_form(
    method: str, options: dict[str, Any], tokens: int
) -> None:
    """Parts per row, and one set of parts for all rows; any number of tokens a row."""
    forms = [built(method, options, seed) for seed in range(4)]
    _, packed, _ = forms[0]
    parts = {name: torch.stack([form[2][name] for form in forms]) for name in packed.parts}
    x = torch.randn(4, tokens, 24)
    y = torch.randn(4, tokens, 40) if method == "lora" else x
    got = OPS[packed.op].apply(nn.Identity(), parts, packed.static, x, y)
    first = {name: value[:1] for name, value in parts.items()}
    all_first = OPS[packed.op].apply(nn.Identity(), first, packed.static, x, y)
    for row, (module, _, _) in enumerate(forms):
        want = module(x[row : row + 1], y[row : row + 1])[0]
        torch.testing.assert_close(got[row], want, rtol=1e-5, atol=1e-5)
        assert (want - y[row]).abs().max() > 1e-2
        torch.testing.assert_close(all_first[row], forms[0][0](x[row : row + 1], y[row : row + 1])[0])


@pytest.mark.parametrize(("method", "options"), FORMS)
def test_serving_forms_hold_the_files_tensors_and_nothing_more(method: str, options: dict[str, Any]) -> None:
    module, packed, _ = built(method, options, 0)
    own = {name: part for name, part in packed.parts.items() if isinstance(part, Tensor)}
    shapes = {n.removesuffix("_t"): (p.mT if n.endswith("_t") else p).shape for n, p in own.items()}
    assert shapes == {n: p.shape for n, p in module.named_parameters()}
    places = {parameter.data_ptr() for parameter in module.parameters()}
    for name, part in own.items():
        assert part.data_ptr() in places or (method == "lora" and name == "b"), f"{name} is a copy"
        assert not part.requires_grad


def test_a_scale_of_lora_goes_into_its_serving_form() -> None:
    module, packed, parts = built("lora", {"rank": 4, "alpha": 6.0}, 1)
    assert packed.static == ()
    torch.testing.assert_close(parts["b"], module.get_parameter("b").detach() * 1.5)
