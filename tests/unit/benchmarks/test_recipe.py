"""The recipes of stage two: the stored comparison holds the rates of `training.settings.defaults` up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import contest, recipe, record
from benchmarks.contest import Job, Place
from benchmarks.draws import Case, Drawn
from benchmarks.recipe import Bench, average, behind, best_rate, entries
from benchmarks.recipe_cases import COMPARISONS, METHODS_COMPARED, RATES, Recipe
from tests.tiny import WORDS, tiny_backbone
from training.settings.config import TrainConfig, resolve
from training.settings.defaults import DEFAULTS

NOT_COMPARED = {"linear_probe", "prompt_tuning", "intrinsic_said"}
NOT_THE_BEST = {
    "pfeiffer",  # equal within the error: the lower rate, on purpose
    "compacter",  # equal within the error: the higher one is ahead as trained
}
ENOUGH = 1.0  # points
CELLS = record.read(recipe.NAME)


def _of_default(method: str) -> Recipe:
    return Recipe(method=method, lr=DEFAULTS[method].lr or 0.0)


def test_every_recipe_is_stored_on_every_case_and_seed() -> None:
    assert {entry.key for entry in entries()} == set(CELLS)
    assert {cell["contender"] for cell in CELLS.values()} == {o.name for c in COMPARISONS for o in c.recipes}
    for cell in CELLS.values():
        assert cell["value"] == cell["values"][cell["metric"]]
        assert {"commit", "gpu", "torch"} <= cell["origin"].keys()


def test_rates_of_all_methods_but_three_were_compared() -> None:
    assert set(RATES) == set(DEFAULTS) - NOT_COMPARED
    compared = {(one.method, one.lr) for one in METHODS_COMPARED.rates}
    assert {(method, DEFAULTS[method].lr) for method in RATES} <= compared


@pytest.mark.parametrize("method", sorted(RATES))
def test_a_default_rate_is_the_best_of_those_compared_or_equal_to_it(method: str) -> None:
    chosen, best = _of_default(method), best_rate(CELLS, method)
    assert (chosen == best) == (method not in NOT_THE_BEST)
    if chosen != best:
        apart = behind(CELLS, METHODS_COMPARED, chosen, best)
        assert apart.count == len(METHODS_COMPARED.cases) * len(METHODS_COMPARED.seeds)
        assert 0 <= apart.value <= max(apart.error, ENOUGH)


def test_where_a_default_is_not_the_best_there_is_a_reason() -> None:
    lower, higher = Recipe(method="compacter", lr=3e-3), Recipe(method="compacter", lr=1e-2)
    assert average(CELLS, METHODS_COMPARED, higher, "as_trained") > average(
        CELLS, METHODS_COMPARED, lower, "as_trained"
    )
    assert (DEFAULTS["pfeiffer"].lr or 0.0) < best_rate(CELLS, "pfeiffer").lr


def test_the_usual_recipe_is_that_of_a_run() -> None:
    usual, own = Recipe(), resolve(TrainConfig(data="x", task="x"))
    assert (usual.start, usual.head_lr, usual.lr) == (own.head_start, own.lr_head_stage2, own.lr)
    assert usual.batch_size == own.batch_size


def _cell(value: float, left: float, alone: float) -> dict[str, Any]:
    return {"value": value, "as_trained": left, "head_alone": alone, "metric": "accuracy"}


def test_gains_are_points_over_the_head_alone_and_differences_are_paired() -> None:
    of, case = METHODS_COMPARED, METHODS_COMPARED.cases[0].name
    low, high = Recipe(method="lora", lr=1e-3), Recipe(method="lora", lr=3e-3)
    cells = {
        f"{case}/{low.name}/0": _cell(0.52, 0.51, 0.50),
        f"{case}/{low.name}/1": _cell(0.64, 0.60, 0.60),
        f"{case}/{high.name}/0": _cell(0.55, 0.49, 0.50),
        f"{case}/{high.name}/1": _cell(0.69, 0.60, 0.60),
    }
    assert average(cells, of, low) == pytest.approx(3.0)
    assert average(cells, of, low, "as_trained") == pytest.approx(0.5)
    assert best_rate(cells, "lora") == high
    assert behind(cells, of, low, high).shown(sign=True) == "+4.0 ± 1.0"
    text = recipe.table(cells)
    assert "| `lora` | 0.001 | +0.5 | +3.0 | +4.0 ± 1.0 | +0.5 / +3.0 |" in text
    assert "| `lora` | **0.003** | -0.5 | +7.0 |  | -0.5 / +7.0 |" in text
    assert "phm" not in text


def test_recipes_say_what_they_are() -> None:
    one = Recipe(strength=3.0, epochs=1, head_lr=0.0, batch_size=16, norm="both", layers=(2, 3))
    told = "hadamard at 0.01, head of C 3, 1 epoch, head frozen, batches of 16, norm both, last 2 layers"
    assert one.name == told
    assert replace(Recipe(), start=0.0).beside(Recipe()) == "head of zeros"
    assert one.options == {"norm": "both", "layers": [2, 3]}
    names = [found.name for comparison in COMPARISONS for found in set(comparison.recipes)]
    assert all(len(set(c.recipes)) == len({found.name for found in c.recipes}) for c in COMPARISONS)
    assert "hadamard at 0.01, head times 0.3, 3 epochs" in names


def _drawn() -> Drawn:
    def rows(start: int, count: int) -> tuple[dict[str, Any], ...]:
        return tuple(
            {"sentence": f"{WORDS[place % 3]} {WORDS[place % 40 + 3]}", "label": place % 3}
            for place in range(start, start + count)
        )

    card = {"kind": "single_sentence", "text_fields": ["sentence"], "label_names": ["a", "b", "c"]}
    return Drawn(card, rows(0, 24), rows(24, 12))


def test_stage_two_starts_from_the_scaled_head_and_a_frozen_one_stays() -> None:
    bench = Bench(_drawn(), tiny_backbone("bert"), 0)
    still = Recipe(head_lr=0.0, epochs=1)
    adapter, l2 = bench.adapter(still)
    assert adapter.head is not None
    torch.testing.assert_close(adapter.head.weight.detach(), 0.3 * bench.fitted.weight)
    assert l2 == pytest.approx(1 / (bench.fitted.C * 24))  # states are of unit length
    before = [parameter.detach().clone() for parameter in adapter.body_parameters()]
    with adapter.attached(bench.backbone):
        bench.run(still, adapter, l2)
    torch.testing.assert_close(adapter.head.weight.detach(), 0.3 * bench.fitted.weight)
    assert any(not torch.equal(a, b) for a, b in zip(before, adapter.body_parameters(), strict=True))
    soft, _ = bench.adapter(Recipe(strength=0.1))
    hard, decay = bench.adapter(Recipe(strength=100.0, head_decay=0.0))
    assert soft.head is not None
    assert hard.head is not None
    assert float(soft.head.weight.detach().norm()) < float(hard.head.weight.detach().norm())
    assert decay == 0.0


def test_a_cell_has_the_three_scores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backbone, drawn = tiny_backbone("bert"), _drawn()
    monkeypatch.setattr(contest, "open_backbone", lambda name, device: backbone)
    monkeypatch.setattr(recipe, "draw", lambda case, data, seed: drawn)
    place = Place("tiny", "tiny", "cpu", tmp_path, "", "")
    job = Job(Case("toy", "toy", rows=24), drawn, tmp_path, 0, place)
    found = recipe.measure(Recipe(epochs=2), job)
    bench = Bench(drawn, backbone, 0)
    truth = torch.tensor([row["label"] for row in drawn.test])
    assert found["head_alone"] == float((bench.alone.argmax(1) == truth).double().mean())
    assert found["values"]["accuracy"] > 0.9  # the first word tells the class
    assert {"as_trained", "averaged", "C", "seconds"} <= found.keys()
