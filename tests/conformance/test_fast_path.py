"""The fast path computes what the reference path does, on every family that has it and for every method."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from modeling import FAMILIES, METHODS, Adapter, Backbone, Encoded, ServedModel, fast, plan
from modeling.kernels import kernels
from modeling.kernels.library import levels, opened
from modeling.ops import OPS
from modeling.ops.base import no_kernel
from tests.conformance import checks
from tests.tiny import CONFIGS, VARIANTS, hidden_of, random_backbone, random_texts, tiny_backbone

FAST = [name for name, family in FAMILIES.items() if family.fast]
PER_ROW = [method for method in METHODS if not checks.exclusive(method)]
ACTING = [method for method in PER_ROW if method != "linear_probe"]
SPEC = checks.SPECS[0]
NEAR = 2e-6  # of the largest number
needs_kernels = pytest.mark.skipif(
    kernels() is None and not (shutil.which("cc") or shutil.which("gcc")),
    reason="no C compiler, so no kernels",
)
pytestmark = needs_kernels


def both(backbone: Backbone, adapters: Sequence[Adapter | None]) -> tuple[list[ServedModel], list[int]]:
    """The fast path and the reference, with the same adapters in the same slots; slots by row."""
    models = [ServedModel(backbone), ServedModel(backbone, fast=False)]
    slots = [[model.install(a.pack()) if a else 0 for a in adapters] for model in models]
    assert slots[0] == slots[1]
    bodies = [models[0].placement(slot).body_slot if slot else 0 for slot in slots[0]]
    return models, bodies


def ragged(backbone: Backbone, rows: int) -> list[Encoded]:
    """Texts of many lengths, one of them a single token."""
    texts = backbone.text.encode(random_texts(rows - 1, seed=rows))
    return [*texts, Encoded([5], [0], 1, truncated=False)]


def compare(models: Sequence[ServedModel], encoded: Sequence[Encoded], bodies: Sequence[int]) -> None:
    before = models[0].passes["fast"]
    got, want = (model.hidden(encoded, bodies) for model in models)
    assert models[0].passes["fast"] == before + 1, "the batch went the reference way"
    assert models[1].passes["fast"] == 0
    for mine, reference in zip(got, want, strict=True):
        assert not torch.equal(mine, torch.zeros_like(mine))
        assert (mine - reference).abs().max() <= NEAR * reference.abs().max()


def mixed(backbone: Backbone, methods: Sequence[str | None], size: float = 0.1) -> list[Adapter | None]:
    spec = SPEC if SPEC.pooling in backbone.poolings else replace(SPEC, pooling=backbone.poolings[0])
    return [
        checks.trained(backbone, method, spec, number, size=size) if method else None
        for number, method in enumerate(methods)
    ]


def test_kernels_are_built_where_a_compiler_is() -> None:
    assert kernels() is not None, "run `pip install -e .` (or make setup) to build modeling/kernels/rows.c"


@pytest.mark.parametrize("family", FAST)
@pytest.mark.parametrize("method", PER_ROW)
def test_a_method_beside_itself_and_bare_rows(family: str, method: str) -> None:
    backbone = tiny_backbone(family)
    models, bodies = both(backbone, mixed(backbone, [method, None, method, None, method, method]))
    compare(models, ragged(backbone, 6), bodies)
    compare(models, ragged(backbone, 6), [bodies[0]] * 6)  # one adapter for a whole batch


@pytest.mark.parametrize("family", FAST)
def test_all_methods_in_one_batch(family: str) -> None:
    backbone = tiny_backbone(family)
    models, bodies = both(backbone, mixed(backbone, [None, *PER_ROW, None, *PER_ROW]))
    compare(models, ragged(backbone, len(bodies)), bodies)


@pytest.mark.parametrize("variant", [n for n, config in VARIANTS.items() if config.model_type in FAST])
def test_other_shapes_of_a_family(variant: str) -> None:
    backbone = random_backbone(VARIANTS[variant])
    models, bodies = both(backbone, mixed(backbone, [None, *PER_ROW]))
    compare(models, ragged(backbone, len(bodies)), bodies)


def test_scaled_embeddings() -> None:
    config = deepcopy(CONFIGS["bart"])
    config.scale_embedding = True
    backbone = random_backbone(config)
    models, bodies = both(backbone, mixed(backbone, [None, *PER_ROW]))
    compare(models, ragged(backbone, len(bodies)), bodies)
    compare(models, ragged(backbone, 3), [0, 0, 0])


def test_rows_that_its_tables_do_not_reach_run_on_the_reference_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_REACH", 8)
    for family, limited in (("modernbert", True), ("mpnet", True), ("bert", False)):
        model = ServedModel(tiny_backbone(family))
        for words in (2, 12):
            model.hidden(model.backbone.text.encode([" ".join(["w1"] * words)]), [0])
        assert model.passes == {"fast": 2 - limited, "reference": int(limited)}, family


@pytest.mark.parametrize("family", FAST)
def test_bare_rows_alone(family: str) -> None:
    backbone = tiny_backbone(family)
    models, bodies = both(backbone, [None] * 4)
    compare(models, ragged(backbone, 4), bodies)
    compare(models, [Encoded([5], [0], 1, truncated=False)], [0])


OPTIONS = [
    *(("houlsby", {"bottleneck": b, "activation": a}) for b, a in ((3, "gelu"), (20, "relu"), (8, "swish"))),
    *(("phm", {"bottleneck": 6, "division": 2}), ("phm", {"bottleneck": 16, "division": 8})),
    *(
        ("compacter", {"bottleneck": 8, "division": 2, "rank": 3}),
        ("compacter", {"bottleneck": 8, "division": 1}),
    ),
    *(
        ("compacter", {"bottleneck": 16, "share_factors": True}),
        ("lora", {"rank": 1}),
        ("lora", {"rank": 19}),
    ),
    *(
        ("low_rank_adapter", {"bottleneck": 8, "rank": 7}),
        ("hadamard", {"placement": "post_dense", "norm": "both"}),
    ),
    *(("houlsby", {"bottleneck": 8, "pre_norm": True}), ("pfeiffer", {"bottleneck": 8, "post_norm": True})),
    ("compacter", {"bottleneck": 8, "factorised_rule": True}),
]


@pytest.mark.parametrize(("method", "options"), OPTIONS)
def test_other_shapes_and_options(method: str, options: dict[str, object]) -> None:
    """Also those that no kernel computes: there the op's own form acts within the fast pass."""
    backbone = tiny_backbone("bert")
    adapters = [checks.trained(backbone, method, SPEC, seed, options, size=0.1) for seed in range(3)]
    models, bodies = both(backbone, [*adapters, None])
    compare(models, ragged(backbone, 4), bodies)


@pytest.mark.parametrize("level", ["plain", "avx2", "avx512"])
def test_every_set_of_instructions(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if level not in levels():
        pytest.skip(f"this processor has no {level}")
    monkeypatch.setattr(fast, "kernels", lambda: opened(level))
    backbone = tiny_backbone("bert")
    models, bodies = both(backbone, mixed(backbone, [None, *PER_ROW]))
    compare(models, ragged(backbone, len(bodies)), bodies)


@pytest.mark.parametrize("family", ["bert", "mpnet", "t5", "modernbert"])
def test_an_op_without_a_kernel_acts_by_its_own_form(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, op in list(OPS.items()):
        monkeypatch.setitem(OPS._items, name, replace(op, rows=no_kernel))
    backbone = tiny_backbone(family)
    models, bodies = both(backbone, mixed(backbone, [None, *PER_ROW]))
    compare(models, ragged(backbone, len(bodies)), bodies)


@pytest.mark.parametrize("family", ["bert", "mpnet", "t5", "modernbert"])
@pytest.mark.parametrize("long", [1, 9, 1000])
def test_long_rows_take_the_librarys_attention(
    long: int, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fast._LONG, torch.float32, long)
    backbone = tiny_backbone(family)
    models, bodies = both(backbone, mixed(backbone, [None, "hadamard", "lora", "ia3", "hadamard", "bitfit"]))
    compare(models, ragged(backbone, 6), bodies)


def test_threads_make_no_difference() -> None:
    """Whoever computes a row, it is computed alike."""
    backbone = tiny_backbone("bert")
    models, bodies = both(backbone, mixed(backbone, [None, *PER_ROW, *PER_ROW]))
    encoded = ragged(backbone, len(bodies))
    compare(models, encoded, bodies)
    alone, before = models[0].hidden(encoded, bodies), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for _ in range(5):
            together = models[0].hidden(encoded, bodies)
            for mine, reference in zip(together, alone, strict=True):
                assert (mine - reference).abs().max() <= NEAR * reference.abs().max()
    finally:
        torch.set_num_threads(before)


def test_parts_that_grow_are_read_where_they_are() -> None:
    """Between passes adapters come and go: banks move, slots are reused."""
    backbone = tiny_backbone("bert")
    encoded = ragged(backbone, 3)
    models, bodies = both(backbone, mixed(backbone, ["hadamard", "houlsby", "bitfit"]))
    compare(models, encoded, bodies)
    for number in range(24):  # more than one step of growth
        late = checks.trained(backbone, PER_ROW[number % 4], SPEC, 50 + number, size=0.1)
        slots = {model.install(late.pack()) for model in models}
        assert len(slots) == 1
        compare(models, encoded, [bodies[number % 3], slots.pop(), 0])
        if number % 5 == 4:
            for model in models:
                model.remove(number)
        bodies = [2, 3, 1] if number % 5 == 4 and number > 4 else bodies


def parameters(adapter: Adapter) -> list[Tensor]:
    return [parameter.data for parameter in adapter.body_parameters()]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ACTING)
def test_a_poisoned_row_is_seen_and_its_neighbours_keep_their_bits(method: str, bad: float) -> None:
    """One bad number in any parameter: seen wherever the reference sees it, and nothing else moves."""
    backbone = tiny_backbone("bert")
    encoded = ragged(backbone, 4)
    adapters = mixed(backbone, [method, method, None, "lora" if method != "lora" else "houlsby"])
    models, bodies = both(backbone, adapters)
    quick, reference = models
    clean = quick.hidden(encoded, bodies)
    assert adapters[0] is not None
    for values in parameters(adapters[0]):
        kept = values.flatten()[-1].item()
        values.view(-1)[-1] = bad
        for model in models:
            model.remove(1)
            assert model.install(adapters[0].pack()) == 1
        got, want = quick.hidden(encoded, bodies), reference.hidden(encoded, bodies)
        seen, hidden = (~rows[0].isfinite().all(1) for rows in (got, want))
        assert (seen | ~hidden).all()  # torch's attention itself hides some
        for mine, before in zip(got[1:], clean[1:], strict=True):
            assert torch.equal(mine, before)
        values.view(-1)[-1] = kept


def test_what_it_refuses_runs_on_the_reference_path() -> None:
    """An adapter attached in its training form, other weights, a pass that begins at a layer."""
    backbone = tiny_backbone("bert")
    adapter, exclusive = (checks.trained(backbone, method, SPEC, 3) for method in ("hadamard", "full"))
    encoded = backbone.text.encode(["w1 w2 w3"])
    model = ServedModel(backbone)
    with adapter.attached(backbone):
        want = hidden_of(backbone, encoded)
        torch.testing.assert_close(model.hidden(encoded, [0])[0], want, **checks.TOLERANCE)
    slot = model.install(exclusive.pack())
    with exclusive.attached(backbone):
        want = hidden_of(backbone, encoded)
    torch.testing.assert_close(model.hidden(encoded, [slot])[0], want, **checks.TOLERANCE)
    assert model.passes == {"fast": 0, "reference": 2}
    assert model._path is not None
    batch = backbone.pack(encoded)
    assert model._path.suits(batch)


def test_another_models_adapters_on_the_same_backbone_do_not_act() -> None:
    backbone = tiny_backbone("bert")
    encoded = backbone.text.encode(["w1 w2 w3"])
    want = ServedModel(backbone).hidden(encoded, [0])[0]
    other = ServedModel(backbone)
    other.install(checks.trained(backbone, "hadamard", SPEC, 1).pack())
    mine = ServedModel(backbone)
    assert torch.equal(mine.hidden(encoded, [0])[0], want)
    assert mine.passes["fast"] == 1


def test_families_that_share_no_form_run_on_the_reference_path() -> None:
    for name in set(FAMILIES) - set(FAST) - {"t5"}:  # which has a path of its own
        model = ServedModel(tiny_backbone(name))
        model.hidden(model.backbone.text.encode(["w1"]), [0])
        assert model.passes == {"fast": 0, "reference": 1}, name
