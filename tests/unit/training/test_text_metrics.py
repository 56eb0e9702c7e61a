"""Scores of strings: against values recorded from the official code, and the cases that it leaves open."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.metrics import texts as text_metrics


def _values(strings: list[Any]) -> list[str]:
    return [str(entry["value"]) if isinstance(entry, dict) else str(entry) for entry in strings]


def _ours(case: dict[str, Any]) -> dict[str, float]:
    told, raw = _values(case["predictions"]), case["targets"]
    metric = case["metric"]
    if metric == "squad":
        found = text_metrics.squad(told, raw)
        return {"em": found["exact_match"], "f1": found["f1"]}
    wanted = _values(raw)
    if metric.startswith("mean_multiclass_f1"):
        return {"f1_multiclass": text_metrics.macro_f1(told, wanted, 3)}
    function, name = {
        "accuracy": (text_metrics.accuracy, "accuracy"),
        "f1_score_with_invalid": (text_metrics.f1_with_invalid, "f1"),
        "multirc_f1_over_all_answers": (text_metrics.f1_with_invalid, "f1"),
        "pearson": (text_metrics.pearson, "pearson"),
        "spearman": (text_metrics.spearman, "spearmanr"),
        "matthews_corrcoef": (text_metrics.matthews, "matthews_correlation"),
    }[metric]
    return {name: function(told, wanted)}


@pytest.mark.shared_data
def test_every_recorded_value_is_reproduced(oracles: Path) -> None:
    cases = json.loads((oracles / "tasks" / "metrics.json").read_text())
    assert len(cases) >= 12
    for case in cases:
        if case["metric"].startswith("mean_group_metric"):
            continue  # of whole questions of MultiRC, which is not measured here
        in_percent = {name: 100 * value for name, value in _ours(case).items()}
        assert in_percent == pytest.approx(case["result"], abs=1e-9), case["metric"]


def test_an_output_that_is_no_label_is_wrong_in_every_metric() -> None:
    found = text_metrics.scores_of_texts(["1", "what?", "0"], ["1", "1", "0"], 2)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx(5 / 6)
    assert "f1" not in text_metrics.scores_of_texts(["1"], ["1"], 3)


def test_undefined_values_are_numbers() -> None:
    assert text_metrics.matthews(["1", "1"], ["1", "1"]) == 0.0
    assert text_metrics.scores_of_texts(["nan", "x"], ["1.0", "2.0"], None) == {
        "pearson_spearman": 0.0,
        "pearson": 0.0,
        "spearman": 0.0,
    }
    assert text_metrics.squad(["x"], [[]]) == {"exact_match": 0.0, "f1": 0.0}


@pytest.mark.parametrize(
    ("told", "answers", "exact_match", "f1"),
    [
        ("The cat!", ["dog", "a cat"], 1.0, 1.0),  # the best of the answers, in SQuAD's normal form
        ("red red car", ["red car"], 0.0, 2 * 2 / 5),  # a word counts as often as both have it
        ("red car", ["blue", "red red red"], 0.0, 2 * 1 / 5),
        ("an  answer", ["answer a"], 1.0, 1.0),
        ("other", ["words"], 0.0, 0.0),
    ],
)
def test_squad_by_hand(told: str, answers: list[str], exact_match: float, f1: float) -> None:
    found = text_metrics.squad([told, "x"], [answers, ["x"]])
    assert found == pytest.approx({"exact_match": (exact_match + 1) / 2, "f1": (f1 + 1) / 2})


def test_correlations_are_of_the_numbers_meant() -> None:
    told, wanted = ["1.0", "2.0", "no number", "9.0"], ["1.0", "3.0", "0.0", "4.0"]
    assert text_metrics.spearman(told, wanted) == pytest.approx(1.0)
    assert text_metrics.pearson(told, wanted) == pytest.approx(0.8824, abs=1e-3)


def test_f1_and_matthews_by_hand() -> None:
    told, wanted = ["1", "1", "0", "0", "?"], ["1", "0", "0", "1", "0"]
    assert text_metrics.f1_with_invalid(told, wanted) == pytest.approx(2 * 1 / (2 * 1 + 2 + 1))
    assert text_metrics.matthews(["1", "0", "1", "0"], ["1", "0", "0", "1"]) == 0.0
    assert text_metrics.matthews(["1", "0"], ["1", "0"]) == pytest.approx(1.0)
