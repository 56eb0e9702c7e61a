"""What `trunkline evaluate` computes offline is what the server answers, rows of all tasks mixed at random.

Real texts, pairs and numbers from the public data sets, real weights, files that training wrote: a short run
each, because what is tested is the way from file to answer, not how good the answer is.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from modeling import Backbone, load_backbone
from proof.check import CheckReport, check_file
from service.settings import Settings
from tests.integration.world import Live, assert_close
from training.file.evaluate import FileEvaluation, evaluate_file
from training.run import train
from training.settings.config import TrainConfig

TASKS = {
    "trec": "hadamard",
    "mrpc": "ln_tuning",
    "stsb": "bitfit",
    "sst2": "ia3",
    "banking77": "linear_probe",
}
ROWS = 60


def verified(path: Path, backbone: Backbone) -> CheckReport:
    """The service's own check, in this process; that training asks a fresh one is tested elsewhere."""
    return check_file(path.read_bytes(), backbone)


@pytest.fixture(scope="module")
def evaluated(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, FileEvaluation]:
    folder, backbone = tmp_path_factory.mktemp("files"), load_backbone("minilm")
    found: dict[Path, FileEvaluation] = {}
    for task, method in TASKS.items():
        out, data = folder / f"{task}.safetensors", shared_data / task
        config = TrainConfig(
            data=str(data),
            task=task,
            method=method,
            out=str(out),
            max_train_rows=400 if task == "banking77" else 64,
            max_validation_rows=ROWS,
            epochs=1,
            max_tokens=48,
        )
        train(config, backbone=backbone, verify=lambda path, _: verified(path, backbone))
        found[out] = evaluate_file(out, data, backbone=backbone, max_rows=ROWS)
    return found


@pytest.mark.shared_data
def test_served_is_evaluated(evaluated: dict[Path, FileEvaluation], tmp_path: Path) -> None:
    with Live(Settings(store=tmp_path / "store", device="cpu")) as live:
        for path, one in evaluated.items():
            assert live.push(one.task, path.read_bytes()).status_code == 201
        cells = [(one, i) for one in evaluated.values() for i in range(len(one.rows))]
        random.Random(0).shuffle(cells)
        while cells:  # several tasks and few rows a request, so that batches hold a bit of everything
            taken, cells = cells[:40], cells[40:]
            for task in {one.task for one, _ in taken}:
                mine = [(one, i) for one, i in taken if one.task == task]
                check(live, mine)


def check(live: Live, cells: list[tuple[FileEvaluation, int]]) -> None:
    task = cells[0][0].task
    answers = live.predict(task, [as_json(one.texts[i]) for one, i in cells], raw=True, truncate=True)
    for (one, i), got in zip(cells, answers["predictions"], strict=True):
        offline = one.rows[i]
        assert_close(got["logits"], offline.logits)
        assert got["label"] == offline.label
        assert (got["tokens"], got["truncated"]) == (offline.tokens, offline.truncated)


def as_json(item: Any) -> Any:
    return item if isinstance(item, str) else {"text": item[0], "text_pair": item[1]}


@pytest.mark.shared_data
def test_rows_of_all_tasks_share_a_batch(evaluated: dict[Path, FileEvaluation], tmp_path: Path) -> None:
    """The single-text tasks in one request: every text under every task, still as offline."""
    single = [one for one in evaluated.values() if one.task in ("trec", "sst2", "banking77")]
    with Live(Settings(store=tmp_path / "store", device="cpu")) as live:
        for path, one in evaluated.items():
            assert live.push(one.task, path.read_bytes()).status_code == 201
        for owner in single:
            texts = [as_json(item) for item in owner.texts[:20]]
            names = [one.task for one in single]
            results = live.predict(names, texts, raw=True, truncate=True)["results"]
            mine = next(result for result in results if result["task"] == owner.task)
            for i, got in enumerate(mine["predictions"]):
                assert_close(got["logits"], owner.rows[i].logits)
