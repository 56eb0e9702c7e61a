"""The service with recorded passes: here they run on the CPU as they are, and everything else as on a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modeling import Backbone
from modeling.cuda import RecordedPath
from service.settings import Settings
from tests.integration.world import TEXTS, Live, adapter_of, assert_close, file_of, logits_alone


def recorded(live: Live) -> int:
    """As the service tells it in both places."""
    told = live.http.get("/v1/info").json()["recorded_passes"]
    (metric,) = re.findall(r"^trunkline_recorded_passes (\S+)$", live.http.get("/metrics").text, re.MULTILINE)
    assert float(metric) == told
    return int(told)


def test_what_is_recorded_is_told_and_an_upload_needs_no_new_recording(
    backbone_folder: Path,
    backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RecordedPath, "of", RecordedPath.on)
    settings = Settings(
        backbone=str(backbone_folder),
        store=tmp_path / "store",
        device="cpu",
        dtype="float32",
        record_passes=True,
    )
    task = "mood"
    with Live(settings) as live:
        counts = []
        for seed in range(8):
            assert live.push(task, file_of(backbone, task, seed)).status_code == 201
            (result,) = live.predict([task], TEXTS[:5], raw=True)["results"]
            for text, prediction in zip(TEXTS[:5], result["predictions"], strict=True):
                wanted = logits_alone(backbone, adapter_of(backbone, task, seed), text)
                assert_close(prediction["logits"], wanted)
            counts.append(recorded(live))
        # A few sizes of batches and kinds of rows in them: probes, beside a bare row, the predicted texts.
        assert 0 < counts[0] <= counts[-1] < len(counts)


def test_without_being_asked_nothing_is_recorded(live: Live, files: dict[str, bytes]) -> None:
    task = next(iter(files))
    assert live.push(task, files[task]).status_code == 201
    live.predict([task], TEXTS[:5])
    assert recorded(live) == 0
