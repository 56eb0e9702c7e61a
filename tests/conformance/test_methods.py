"""Every registered method on every registered family: generated from the two registries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeling import FAMILIES, METHODS, ServedModel, methods_table
from modeling.counts import architecture, count, empty_model
from modeling.registry import discover
from tests.conformance import checks
from tests.tiny import CONFIGS, random_texts, tiny_backbone

PAIRS = [(family, method) for family in FAMILIES for method in METHODS]
TEXTS = random_texts(5, seed=1)
PER_ROW = [method for method in METHODS if not checks.exclusive(method)]
SOME = ["hadamard", "compacter", "houlsby", "bitfit", "lora", "ia3", "prompt_tuning", "ln_tuning", None]


def test_every_family_and_method_is_covered() -> None:
    assert set(FAMILIES) == set(CONFIGS)
    assert {m for m in SOME if m} <= set(METHODS)


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_identity_at_start(family: str, method: str) -> None:
    checks.check_identity_at_start(tiny_backbone(family), method, TEXTS)


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_served_equals_each_row_alone(family: str, method: str) -> None:
    """Per-row methods beside themselves, others and bare rows; exclusive ones in batches of their own."""
    if checks.exclusive(method):
        checks.check_exclusive(tiny_backbone(family), method, TEXTS[:3])
    else:
        checks.check_mixed_batch(tiny_backbone(family), [method, None, method, "bitfit", method], TEXTS)


@pytest.mark.parametrize(("family", "method"), [pair for pair in PAIRS if pair[1] in PER_ROW])
def test_texts_apart_beside_others_equal_each_row_alone(family: str, method: str) -> None:
    """Pairs read by a head, cosines and embeddings under each method; those of exclusive ones are above."""
    backbone = tiny_backbone(family)
    kinds = [checks.APART_SPECS[0], *checks.similarities(backbone)]
    texts = [*TEXTS[1:], ("w1 w2", "w3"), ("", "w4 w5"), "w6"]
    methods = [method, None, method, "bitfit", method, method, method]
    checks.check_mixed_batch(backbone, methods, texts, kinds=kinds)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("turn", [0, 1])
def test_all_methods_in_one_batch(family: str, turn: int) -> None:
    """Every method that has a per-row form and a bare row in one batch, with each form of task."""
    everyone = [None, *(m for m in METHODS if not checks.exclusive(m))]
    checks.check_mixed_batch(tiny_backbone(family), everyone, random_texts(len(everyone), seed=5), turn)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    methods=st.lists(st.sampled_from([None, *PER_ROW]), min_size=1, max_size=12),
    seed=st.integers(0, 10_000),
)
def test_any_composition_equals_each_row_alone(family: str, methods: list[str | None], seed: int) -> None:
    checks.check_mixed_batch(tiny_backbone(family), methods, random_texts(len(methods), seed), seed)


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_saved_and_loaded_is_the_same(family: str, method: str) -> None:
    checks.check_round_trip(tiny_backbone(family), method, TEXTS)


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_gradients_only_where_they_belong(family: str, method: str) -> None:
    checks.check_gradients(tiny_backbone(family), method, TEXTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_counted_is_what_is_built(family: str) -> None:
    """The table, from the architecture alone, against the tensors of a real adapter."""
    backbone = tiny_backbone(family)
    kind = "text_to_text" if family == "t5" else "single_label"
    spec = next(s for s in checks.specs(backbone) if s.kind == kind)
    model = empty_model(CONFIGS[family])
    for method in METHODS:
        built = checks.new(backbone, method, spec)
        row = count(built.method, CONFIGS[family], model)
        assert row.parameters == built.num_body_parameters, method
        assert row.file_bytes == sum(t.numel() * 4 for t in built.to_tensors().values()), method
        assert row.backbone_parameters == backbone.num_parameters


@pytest.mark.parametrize(
    ("backbone", "config", "parameters"),
    [
        ("bert-base", {}, 36_864),
        ("bert-base", {"layers": "last-two-thirds"}, 24_576),
        ("bert-base", {"norm": "both"}, 55_296),
        ("bert-base", {"norm": "none"}, 18_432),
        ("bert-large", {}, 98_304),
        ("bert-large", {"layers": "8-23"}, 65_536),
        ("electra-small", {}, 12_288),
        ("roberta-base", {"placement": "post_dense"}, 36_864),
    ],
)
def test_hadamard_counts_of_the_paper(backbone: str, config: dict[str, str], parameters: int) -> None:
    plain = architecture(backbone)
    method = METHODS["hadamard"].from_config(config)
    assert count(method, plain, empty_model(plain)).parameters == parameters


@pytest.mark.parametrize(
    ("backbone", "parameters"),
    [
        ("minilm", 22_713_216),
        ("bert-base", 109_482_240),
        ("bert-base-cased", 108_310_272),
        ("bert-large", 335_141_888),
        ("bert-large-cased", 333_579_264),
        ("roberta-base", 124_645_632),
        ("roberta-large", 355_359_744),
        ("electra-small", 13_483_008),
        ("electra-base", 108_891_648),
        ("electra-large", 334_092_288),
    ],
)
def test_backbone_sizes_are_the_published_ones(backbone: str, parameters: int) -> None:
    rows = {row.method: row for row in methods_table(backbone)}
    assert set(rows) == set(METHODS)
    assert all(row.backbone_parameters == parameters for row in rows.values())
    assert rows["hadamard"].file_bytes == 4 * (rows["hadamard"].parameters + rows["hadamard"].head_parameters)


@pytest.mark.parametrize("method", [m for m in PER_ROW if m != "linear_probe"])
def test_memory_is_at_most_a_fifth_above_the_tensors(method: str) -> None:
    """The design's bound on device memory, at a size where an eighth of spare rows can be seen."""
    backbone = tiny_backbone("bert")
    served = ServedModel(backbone)
    adapter = checks.trained(backbone, method, checks.SPECS[0], 1)
    for _ in range(200):
        served.install(adapter.pack())
    tensors = 200 * sum(t.nbytes for t in adapter.to_tensors().values())
    assert served.nbytes <= 1.2 * tensors


def test_removed_adapters_leave_room_and_nothing_behind() -> None:
    backbone = tiny_backbone("bert")
    served = ServedModel(backbone)
    encoded = backbone.text.encode(TEXTS)
    plain = served.hidden(encoded, [0] * len(TEXTS))
    adapters = [checks.trained(backbone, m, checks.SPECS[i % 4], i) for i, m in enumerate([*PER_ROW] * 4)]
    slots = [served.install(a.pack()) for a in adapters]
    full = served.nbytes
    for round_ in range(3):
        for slot in slots:
            served.remove(slot)
        assert served.num_resident == 0
        for now, before in zip(served.hidden(encoded, [0] * len(TEXTS)), plain, strict=True):
            assert torch.equal(now, before)
        slots = [served.install(a.pack()) for a in adapters[round_:] + adapters[:round_]]
        assert served.nbytes == full


_SIXTH = '''
"""A method that exists only in this test: a shift of the attention output."""
from dataclasses import dataclass
from typing import ClassVar
from modeling.methods.base import METHODS, Method
from modeling.ops.affine import Affine
from modeling.sites import Site

@METHODS.add
@dataclass(frozen=True)
class Sixth(Method):
    name: ClassVar[str] = "sixth"
    paper: ClassVar[str] = "none"
    sites = frozenset({Site.ATTN_OUT})
    def build(self, tap, frozen, shared):
        return Affine(tap.width, scale=False, shift=True)
'''


def test_a_new_method_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drop a file into a package, discover it: the whole suite runs on it, and it is counted."""
    package = tmp_path / "more_methods"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sixth.py").write_text(_SIXTH)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(METHODS, "_items", dict(METHODS._items))
    discover("more_methods", [str(package)])
    for family in FAMILIES:
        checks.check_all(lambda family=family: tiny_backbone(family), "sixth", TEXTS)
    assert {row.method: row.parameters for row in methods_table("bert-base")}["sixth"] == 12 * 768
