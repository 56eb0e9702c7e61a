"""The quality table: which tasks are averaged, and what is left blank."""

from typing import Any

import pytest

from benchmarks import record
from benchmarks.cells import PROBE
from benchmarks.method_quality import (
    NAME,
    RATES,
    TASKS,
    chosen_rate,
    complete_tasks,
    decision,
    defaults,
    is_missing,
    lines,
    quality,
    rate_key,
    rates,
    settle,
    tried,
    wanted,
)
from modeling import METHODS
from training.settings.defaults import DEFAULTS


def _cell(value: float, parameters: int = 10) -> dict[str, Any]:
    settings = {"lr": 0.0}
    return {"value": value, "parameters": parameters, "share_percent": parameters / 100, "settings": settings}


def test_only_tasks_that_every_method_has_are_averaged() -> None:
    cells = {
        "trec/full": _cell(0.9, 1000),
        "trec/bitfit": _cell(0.8),
        "cola/full": _cell(0.5, 1000),
        "trec/intrinsic_said": _cell(0.7, 20),
    }
    assert complete_tasks(lines(cells)) == ["trec"]
    text = quality(cells)
    assert "average of trec" in text
    assert "| `bitfit` | 80.0 |  | 80.0 | -10.0 | 88.9 % | 10 | 0.100 % |" in text
    assert "| `full` | 90.0 | 50.0 | 90.0 | +0.0 | 100.0 % | 1,000 | 10.000 % |" in text


def test_an_empty_result_gives_an_empty_table() -> None:
    assert quality({}).count("\n") == rates({}).count("\n") == 1


def test_the_better_candidate_is_chosen_and_the_lower_among_equals() -> None:
    low, _, high = RATES["hadamard"]
    key = [rate_key("trec", "hadamard", lr) for lr in (low, high)]
    cells = {key[0]: _cell(0.8), key[1]: _cell(0.9)}
    assert chosen_rate(cells, "hadamard") == chosen_rate(cells, "ia3") == high
    cells[key[0]] = _cell(0.9)
    assert chosen_rate(cells, "hadamard") == low
    assert f"| **{90.0}** |  | 90.0 |" in rates(cells)
    cells[rate_key("sst2", "hadamard", low)] = _cell(0.7)
    assert chosen_rate(cells, "hadamard") == low  # the other candidate is not there yet
    cells[rate_key("sst2", "hadamard", high)] = _cell(0.8)
    assert chosen_rate(cells, "hadamard") == high


def test_a_cell_with_another_rate_than_the_chosen_one_is_run_again() -> None:
    low, _, high = RATES["hadamard"]
    cells = {rate_key("trec", "hadamard", lr): _cell(0.8 + lr) for lr in (low, high)}
    done = _cell(0.9) | {"task": "trec", "method": "hadamard", "settings": {"lr": low}}
    cells["trec/hadamard"] = done
    assert is_missing("trec/hadamard", "hadamard", cells)
    assert "| `hadamard` | 90.0* | 90.0 |" in quality(cells)
    cells["trec/hadamard"] = done | {"settings": {"lr": high}}
    assert not is_missing("trec/hadamard", "hadamard", cells)
    cells[f"tried/trec/hadamard/{low:g}"] = done
    assert f"| trec | `hadamard` | 90.0 at {low:g} | 90.0 at {high:g} |" in tried(cells)


def test_a_full_length_run_at_another_rate_decides_over_reduced_ones() -> None:
    low, _, high = RATES["bitfit"]
    cells: dict[str, Any] = {rate_key("trec", "bitfit", lr): _cell(0.8 + lr) for lr in (low, high)}
    cells["sst2/bitfit"] = _cell(0.5) | {"task": "sst2", "method": "bitfit", "settings": {"lr": high}}
    assert settle(cells) == cells
    tried_cell = _cell(0.9) | {"task": "sst2", "method": "bitfit", "settings": {"lr": low}}
    cells[f"tried/sst2/bitfit/{low:g}"] = tried_cell
    assert chosen_rate(cells, "bitfit") == low
    settled = settle(cells)
    assert settled["sst2/bitfit"] == tried_cell
    assert settled[f"tried/sst2/bitfit/{high:g}"] == cells["sst2/bitfit"]
    assert settle(settled) == settled


def test_every_method_gets_its_rates_first_and_then_its_tasks() -> None:
    keys = [key for key, _, _ in wanted(list(TASKS), list(RATES))]
    assert len(keys) == len(set(keys))
    first_task = next(i for i, key in enumerate(keys) if not key.startswith("rates/"))
    assert not any(key.startswith("rates/") for key in keys[first_task:])
    for method in RATES:
        for task in TASKS:
            assert f"{task}/{method}" in keys


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_default_rate_is_the_one_that_was_chosen(method: str) -> None:
    """One source: a result file that chooses otherwise, or a default that is edited alone, fails here."""
    chosen, by = decision(record.read(NAME), method)
    assert bool(by) == (method != PROBE), "every method with a body was compared"
    assert DEFAULTS[method].lr == chosen


def test_defaults_that_part_from_the_results_are_seen_in_the_table() -> None:
    low, _, high = RATES["lora"]
    cells = {rate_key("trec", "lora", lr): _cell(0.8 + lr) for lr in (low, high)}
    (row,) = [line for line in defaults(cells).splitlines() if "`lora`" in line]
    assert row == f"| `lora` | {DEFAULTS['lora'].lr:g} | {high:g} | reduced runs |"
    assert DEFAULTS["lora"].lr != high
