"""The table of fewer layers: scores by number of layers, then those that were trained alone."""

from benchmarks import pruning


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
