"""The example of entities: its rows are the same in both formats, and a linear probe learns from them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from proof.check import check_file
from tests.tiny import minilm
from training.data.load import TaskData, load_data
from training.file.evaluate import evaluate_file
from training.rows.examples import WordSpans
from training.run import train
from training.settings.config import TrainConfig

SCRIPT = Path(__file__).parents[3] / "examples" / "entities" / "orders.py"


@pytest.fixture(scope="module")
def orders() -> ModuleType:
    spec = importlib.util.spec_from_file_location("orders", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(data: Path, **changes: object) -> TrainConfig:
    return TrainConfig(data=str(data), task="orders", out=str(data / "a.safetensors"), **changes)  # type: ignore[arg-type]


def entities(data: TaskData) -> list[list[tuple[str, str]]]:
    """Label and characters without spaces, which the two formats have at other places."""
    rows = []
    for row in data.validation.examples:
        assert isinstance(row.target, WordSpans)
        spans = [(data.task.class_names[s.label], str(row.text)[s.start : s.end]) for s in row.target.spans]
        rows.append([(label, text.replace(" ", "")) for label, text in spans])
    return rows


def test_both_formats_hold_the_same(orders: ModuleType, tmp_path: Path) -> None:
    orders.write(tmp_path / "spans", (60, 60, 60), 0, conll=False)
    orders.write(tmp_path / "conll", (60, 60, 60), 0, conll=True)
    spans, conll = (load_data(config(tmp_path / name)) for name in ("spans", "conll"))
    assert spans.task.labels == conll.task.labels
    assert entities(spans) == entities(conll)
    assert sum(map(len, entities(spans))) > 60


def test_no_name_of_a_test_row_is_in_another(orders: ModuleType) -> None:
    known, new = (
        {
            row["text"][one["start"] : one["end"]]
            for row in orders.rows(300, 1, test=test)
            for one in row["entities"]
            if one["label"] in ("city", "product")
        }
        for test in (False, True)
    )
    assert known
    assert new
    assert not known & new


def test_a_probe_learns_it(orders: ModuleType, tmp_path: Path) -> None:
    orders.write(tmp_path, (150, 60, 60), 0, conll=False)
    found = train(
        config(tmp_path, method="linear_probe", device="cpu"),
        backbone=minilm(),
        verify=lambda path, _: check_file(path.read_bytes(), minilm()),
    )
    assert found.value > 0.8
    unseen = evaluate_file(tmp_path / "a.safetensors", tmp_path, "test", backbone=minilm())
    assert 0.2 < unseen.value < found.value
