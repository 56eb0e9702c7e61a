"""What the tables of results say: means with errors, the rate of `full` that held-out rows chose, shares."""

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks import few_rows, held_out_cases, results_table, steps_per_second
from benchmarks.held_out_cases import CASES, is_few
from benchmarks.intervals import mean, paired
from benchmarks.results_table import SEEDS, TASKS, chosen_full, full_rates, shares_of_full
from modeling import METHODS


def _cells(task: str, contender: str, values: list[float], **more: Any) -> dict[str, Any]:
    return {
        f"{task}/{contender}/{seed}": {"contender": contender, "seed": seed, "value": value, **more}
        for seed, value in enumerate(values)
    }


def test_means_have_errors_and_differences_are_paired() -> None:
    found = mean([1.0, 2.0, 3.0])
    assert (found.value, found.count) == (2.0, 3)
    assert found.error == pytest.approx(1 / 3**0.5)
    low, high = found.interval()
    assert (low, high) == pytest.approx(
        (2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3
    )  # t of 2 degrees
    assert found.shown() == "2.0 ± 0.6"
    assert mean([5.0]).shown() == "5.0"
    both = paired({0: 3.0, 1: 5.0, 2: 9.0}, {0: 2.0, 1: 4.0, 7: 1.0})
    assert both is not None
    assert (both.value, both.error, both.count) == (1.0, 0.0, 2)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_held_out_rows_choose_the_rate_of_full_and_test_rows_do_not() -> None:
    cells = {
        **_cells("trec", "full at 3e-05", [0.9, 0.9, 0.9], held_out=0.5),
        **_cells("trec", "full at 0.0001", [0.6, 0.7, 0.8], held_out=0.8),
        **_cells("trec", "full at 0.0003", [0.9], held_out=0.9),  # one seed: not compared
    }
    assert chosen_full(cells, TASKS[0]) == "full at 0.0001"
    assert "| trec | 50.0 / 90.0 | **80.0 / 70.0** | 90.0 / 90.0 |" in full_rates(cells)


def test_a_share_of_full_is_taken_seed_by_seed_over_all_tasks() -> None:
    found = {
        "a": {"x": {0: 45.0, 1: 45.0}, "full": {0: 50.0, 1: 50.0}},
        "b": {"x": {0: 90.0, 1: 99.0, 2: 1.0}, "full": {0: 100.0, 1: 110.0}},
    }
    share = shares_of_full(found, "x")
    assert share is not None
    assert share.count == 2
    assert share.value == pytest.approx(90.0)
    del found["b"]["x"]
    found["b"]["x"] = {}
    assert shares_of_full(found, "x") is None


def test_the_table_has_every_method_that_has_a_cell() -> None:
    size = {"parameters": 10, "share_percent": 0.5}
    cells = {
        **_cells(
            "trec", "full at 0.0001", [0.9, 0.9, 0.9], held_out=0.9, parameters=1000, share_percent=100.0
        ),
        **_cells("trec", "hadamard", [0.81, 0.81, 0.81], held_out=0.8, **size),
        **_cells("trec", "logistic", [0.7, 0.8]),
    }
    text = results_table.table(cells)
    assert "| `hadamard` | 81.0 ± 0.0 | 81.0 | 90.0 % | 90.0 to 90.0 % | 10 | 0.500 % |" in text
    assert "| `full` | 90.0 ± 0.0 | 90.0 | 100.0 % | 100.0 to 100.0 % | 1,000 | 100.000 % |" in text
    assert "| `logistic` | 75.0 ± 5.0 | 75.0 | 83.3 % |" in text
    assert "lora" not in text


def test_what_the_results_must_hold() -> None:
    """The issue's demands of the grid: methods, tasks, seeds."""
    assert set(results_table.METHODS) == set(METHODS) - {"full"}
    assert len(TASKS) >= 8
    assert len(SEEDS) >= 3
    assert sum(task.metric == "pearson+spearman" for task in TASKS) >= 2
    assert any(task.per_class for task in TASKS)
    assert len(CASES) >= 8


def test_setfit_takes_part_only_where_rows_are_few() -> None:
    few = [case.name for case in CASES if is_few(case)]
    wanted = held_out_cases.entries(list(CASES), list(held_out_cases.CONTENDERS))
    assert sorted({e.case.name for e in wanted if e.contender.name == "setfit"}) == sorted(few)
    assert len(few) == 5


def test_differences_are_to_the_better_alternative_of_a_case() -> None:
    case = CASES[3].name
    cells = {
        **_cells(case, "logistic", [0.70, 0.72]),
        **_cells(case, "logistic_cv", [0.80, 0.82]),
        **_cells(case, "setfit", [0.83, 0.85]),
        **_cells(case, "linear_probe", [0.79, 0.83]),
        **_cells(case, "hadamard", [0.84, 0.86]),
    }
    text = held_out_cases.table(cells)
    assert "| 71.0 ± 1.0 | 81.0 ± 1.0 | 81.0 ± 2.0 | 85.0 ± 1.0 | 84.0 ± 1.0 |" in text
    assert "| +0.0 ± 1.0 | +1.0 ± 0.0 | +4.0 ± 1.0 |" in text
    assert f"default − probe: +4.0 on average, at worst +4.0 ({case})." in text
    assert held_out_cases.table({}).count("\n") == 1


def test_ratios_are_of_the_same_round() -> None:
    seconds = {"lora float32": [1.0, 2.0, 1.0], "PEFT lora": [2.0, 8.0, 3.0], "compacter auto": [1.0] * 3}
    assert steps_per_second.ratios(seconds) == {"lora float32 / PEFT lora": 3.0}
    text = steps_per_second.table({"trec": {"seconds": seconds, "ratios": steps_per_second.ratios(seconds)}})
    assert "| trec | lora float32 | 1.0 | PEFT lora | 0.3 | 3.00 |" in text


def test_every_loop_gets_the_same_rows_and_the_first_one_changes() -> None:
    asked: list[tuple[str, list[int]]] = []

    def loop(name: str) -> steps_per_second.Step:
        def step(rows: Sequence[int]) -> float:
            asked.append((name, list(rows)))
            return 0.5

        return step

    steps_per_second.take_turns({"a": loop("a"), "b": loop("b")}, 2, 3, 5)
    assert asked == [("a", [0, 1, 2]), ("b", [0, 1, 2]), ("b", [3, 4, 0]), ("a", [3, 4, 0])]


def test_few_rows_have_a_column_for_each_number_of_rows() -> None:
    cells = {
        **_cells("trec, 100 rows", "hadamard", [0.5, 0.7]),
        **_cells("trec, 100 rows", "full at 0.0001", [0.4, 0.4], held_out=0.4),
        **_cells("trec, 2000 rows", "hadamard", [0.9, 0.9]),
    }
    text = few_rows.table(cells)
    assert "| `hadamard` | 60.0 ± 10.0 |  |  | 90.0 ± 0.0 |" in text
    assert "| `full` | 40.0 ± 0.0 |  |  |  |" in text
    assert few_rows.sst2(cells).count("\n") == 1


def test_the_picture_has_the_tasks_that_every_method_has() -> None:
    cells: dict[str, Any] = {}
    for name in (*results_table.METHODS, "full at 0.0001"):
        for task, value in (("trec", 0.9), ("cola", 0.5)):
            size = {"parameters": len(name), "share_percent": 1.0}
            cells |= _cells(task, name, [value], held_out=value, **size)
    assert results_table.lines(cells)[0].average == pytest.approx(70.0)
    del cells["cola/bitfit/0"]
    found = {line.method: line for line in results_table.lines(cells)}
    assert found["bitfit"].average == found["full"].average == pytest.approx(90.0)
    assert found["bitfit"].parameters == len("bitfit")
    assert results_table.lines({}) == []
