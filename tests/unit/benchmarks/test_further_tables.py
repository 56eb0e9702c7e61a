"""The tables of other seeds, of longer training and of few rows: which cells are wanted, what is shown."""

from typing import Any

from benchmarks import longer_training, low_resource, pruning, seeds
from benchmarks.cells import Cell, Wanted, is_done


def _cell(task: str, method: str, value: float, lr: float = 0.01, **more: Any) -> dict[str, Any]:
    return {"task": task, "method": method, "value": value, "settings": {"lr": lr}, **more}


def test_seeds_are_averaged_only_at_the_rate_of_the_table() -> None:
    first = {
        "trec/full": _cell("trec", "full", 0.9, 1e-4),
        "trec/bitfit": _cell("trec", "bitfit", 0.8),
        "cola/full": _cell("cola", "full", 0.3, 1e-4),
    }
    others = {
        "trec/full/1": _cell("trec", "full", 0.8, 1e-4),
        "trec/full/2": _cell("trec", "full", 0.1, 3e-4),  # another rate: another question
        "trec/bitfit/1": _cell("trec", "bitfit", 0.7),
    }
    text = seeds.table(others, first)
    assert "| `full` | 85.0 (80.0 to 90.0; 2) |" in text
    assert "| `bitfit` | 75.0 (70.0 to 80.0; 2) |" in text
    assert "cola" not in text  # one seed only
    assert "average" not in text  # the other methods have no cell


def test_seeds_are_averaged_over_the_tasks_that_all_methods_have() -> None:
    first = {f"trec/{m}": _cell("trec", m, 0.8) for m in seeds.METHODS}
    others = {f"trec/{m}/{s}": _cell("trec", m, 0.8 + 0.01 * s) for m in seeds.METHODS for s in seeds.OTHERS}
    first["cola/full"] = _cell("cola", "full", 0.3)
    others["cola/full/1"] = _cell("cola", "full", 0.4)
    text = seeds.table(others, first)
    assert "| method | trec | cola | average of trec | to full |" in text
    assert "| `full` | 81.0 (80.0 to 82.0; 3) | 35.0 (30.0 to 40.0; 2) | 81.0 | +0.0 |" in text
    assert seeds.table({}, {}).count("\n") == 1 + len(seeds.METHODS)


def test_longer_training_stands_beside_three_epochs_at_the_same_rate() -> None:
    curve = [[19, 0.1, 0.35], [20, 0.1, 0.31]]
    cells = {
        "cola/full/0.0001": _cell("cola", "full", 0.35, 1e-4, best_epoch=19, curve=curve),
        "cola/compacter_pp/0.003": _cell("cola", "compacter_pp", 0.35, 3e-3, best_epoch=19, curve=curve),
    }
    short = {
        "cola/full": _cell("cola", "full", 0.3, 1e-4),
        "cola/compacter_pp": _cell("cola", "compacter_pp", 0.2, 1e-2),
    }
    text = longer_training.table(cells, short)
    assert "| cola | `full` | 0.0001 | 35.0 | 19 | 31.0 | 30.0 |" in text
    assert "| cola | `compacter_pp` | 0.003 | 35.0 | 19 | 31.0 |  |" in text
    assert text.index("compacter_pp") < text.index("`full`")


def test_a_wanted_cell_is_named_by_all_that_tells_it_apart() -> None:
    made = [
        low_resource.wanted(list(low_resource.TASKS), 0),
        seeds.wanted(["trec", "cola"], list(seeds.METHODS), list(seeds.OTHERS)),
        longer_training.wanted(list(longer_training.TASKS), list(longer_training.METHODS), None),
    ]
    for cells in made:
        keys = [cell.key for cell in cells]
        assert len(keys) == len(set(keys))
        assert all(key.startswith(f"{cell.task}/") for key, cell in zip(keys, cells, strict=True))
    assert {cell.cell.epochs for cell in made[2]} == {20}
    rates = longer_training.wanted(["cola"], ["full"], 0.5)
    assert [cell.key for cell in rates] == ["cola/full/0.5"]


def test_a_cell_at_another_rate_than_the_wanted_one_is_not_done() -> None:
    wanted = Wanted("trec/full", "trec", Cell("full", 0.01, 3))
    assert not is_done(wanted, {})
    assert is_done(wanted, {"trec/full": _cell("trec", "full", 0.9, 0.01)})
    assert not is_done(wanted, {"trec/full": _cell("trec", "full", 0.9, 0.03)})
    by_default = Wanted("trec/full", "trec", Cell("full", 0, 3))
    assert is_done(by_default, {"trec/full": _cell("trec", "full", 0.9, 0.03)})


def test_scores_of_fewer_layers_stand_beside_those_trained_alone() -> None:
    result = {
        "pruned": [
            {"layers": [0, 1, 2], "parameters": 30, "value": 0.9},
            {"layers": [1, 2], "parameters": 20, "value": 0.8},
        ],
        "alone": {
            "drift": {"value": 0.85, "parameters": 20},
            pruning.PRESET: {"value": 0.7, "parameters": 20},
        },
        "backbone_parameters": 1000,
    }
    lines = pruning.table({"sst2": result}).splitlines()
    assert lines[0] == "| layers | trained parameters | share | sst2 |"
    assert lines[2:] == [
        "| 3, pruned | 30 | 3.000 % | 90.0 (0, 1, 2) |",
        "| 2, pruned | 20 | 2.000 % | 80.0 (1, 2) |",
        "| two thirds by drift, trained alone | 20 | 2.000 % | 85.0 |",
        "| two thirds `last-two-thirds`, trained alone | 20 | 2.000 % | 70.0 |",
    ]
    assert pruning.table({}).count("\n") == 1
