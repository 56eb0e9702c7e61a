"""The service in each number format on each device there is: the answers of float32 on the CPU,
within the tolerance that it publishes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modeling import Backbone
from service.settings import Settings
from tests.integration.world import PAIR_TASKS, SPECS, TEXTS, Live, adapter_of, logits_alone

# nothing is skipped: what is there is run
DEVICES = ["cpu"] if not torch.cuda.is_available() else ["cpu", "cuda"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_mixed_tasks(
    device: str,
    dtype: str,
    backbone_folder: Path,
    backbone: Backbone,
    files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    settings = Settings(backbone=str(backbone_folder), store=tmp_path / "store", device=device, dtype=dtype)
    with Live(settings) as live:
        for task, data in files.items():
            response = live.push(task, data)
            assert response.status_code == 201, response.text
        info = live.http.get("/v1/info").json()
        assert (info["device"], info["dtype"]) == (device, dtype)
        tolerance = live.http.get("/v1/limits").json()["tolerance"]["probes"]
        tasks = [task for task in SPECS if task not in PAIR_TASKS]
        results = live.predict(tasks, TEXTS[:40], raw=True)["results"]
        for task, result in zip(tasks, results, strict=True):
            adapter = adapter_of(backbone, task)
            for text, prediction in zip(TEXTS[:40], result["predictions"], strict=True):
                wanted = logits_alone(backbone, adapter, text)
                np.testing.assert_allclose(prediction["logits"], wanted, **tolerance)
