"""Weights per label: by counts, from a file, and refusals."""

import json
from pathlib import Path

import pytest

from training.errors import ConfigError
from training.loop.class_weights import class_weights
from training.metrics.scores import Metric
from training.tasks.multi_label import MultiLabel
from training.tasks.regression import Regression
from training.tasks.single_label import SingleLabel

SINGLE = SingleLabel(("a", "b", "c"), Metric("accuracy"))


def test_none_and_auto() -> None:
    assert class_weights("none", SINGLE, [0, 1]) is None
    assert class_weights("auto", SINGLE, [0, 0, 0, 1]) == pytest.approx([4 / 9, 4 / 3, 1.0])
    multi = MultiLabel(("a", "b", "c"), Metric("micro_f1"))
    assert class_weights("auto", multi, [(0,), (0, 1), (), (0,)]) == pytest.approx([1 / 3, 3.0, 1.0])
    assert class_weights("auto", SINGLE, [0] * 999 + [1]) == pytest.approx([1000 / 2997, 100.0, 1.0])


def test_a_regression_has_no_classes() -> None:
    with pytest.raises(ConfigError, match="no meaning for regression"):
        class_weights("auto", Regression(("y",), Metric("mae")), [0.5])


def test_a_file_gives_every_label_a_weight(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"c": 3, "a": 1.5, "b": 2}))
    assert class_weights(str(path), SINGLE, [0, 1]) == [1.5, 2.0, 3.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a JSON file"),
        ('{"a": 1, "b": 1}', r"differs at \['c'\]"),
        ('{"a": 1, "b": 1, "c": 1, "d": 1}', r"differs at \['d'\]"),
        ('{"a": 1, "b": 0, "c": "x"}', "b, c must be numbers over 0"),
        ("[1, 2, 3]", "differs at list"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        class_weights(str(path), SINGLE, [0, 1])
