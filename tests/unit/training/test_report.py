"""The picture and the page beside a run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modeling import Backbone
from tests.unit.training.conftest import Told, agree, quick
from training.run import train


@pytest.mark.parametrize("kind", ["single_sentence", "regression", "multi_label"])
def test_a_report_has_scores_labels_and_settings(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, kind: str
) -> None:
    folder = tmp_path / "report"
    config = quick(task_folder(kind), tmp_path / "a.safetensors", report=str(folder), seeds=2)
    result = train(config, backbone=backbone, progress=Told(), verify=agree)
    assert sorted(path.name for path in folder.iterdir()) == ["demo.md", "demo.png"]
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "demo.md").read_text()
    assert f"**{result.metric}**" in page
    assert f"{result.value:.4f}" in page
    assert result.baseline.name in page
    assert ("## By label" in page) == (kind != "regression")
    assert f"{result.metric} over 2 seeds" in page
    assert f"{result.num_body_parameters:,}" in page
    assert "| lr | 0.005 |" in page
    assert str(tmp_path) not in page
    assert all(line.count(" | ") >= 1 for line in page.splitlines() if line.startswith("| "))


def test_rows_of_the_label_table_add_up(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    config = quick(task_folder(), tmp_path / "a.safetensors", report=str(tmp_path))
    train(config, backbone=backbone, progress=Told(), verify=agree)
    lines = (tmp_path / "demo.md").read_text().splitlines()
    counts = [
        int(line.split("|")[2]) for line in lines if line.startswith(("| low ", "| middle ", "| high "))
    ]
    assert counts == [10, 10, 10]
