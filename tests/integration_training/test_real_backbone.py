"""The embedded backbone learns a small honest task, and its file is checked by the service's own loader."""

import random
from pathlib import Path

import numpy as np
import pytest

from adapters_store.adapter_file import read_adapter_file
from tests.tiny import minilm
from tests.unit.training.conftest import Rows, Told, write_rows
from training.file.evaluate import evaluate_file
from training.run import train
from training.settings.config import TrainConfig

THINGS = [
    "keyboard",
    "soup",
    "hotel room",
    "ticket machine",
    "blender",
    "bus ride",
    "phone case",
    "garden chair",
]
GOOD = ["works perfectly", "made my day", "was a pleasure", "is better than promised", "deserves praise"]
BAD = [
    "broke at once",
    "ruined my day",
    "was a waste of money",
    "is worse than promised",
    "deserves a refund",
]
ENDS = ["", " again", ", honestly", " for all of us", ", as my friend said"]


def reviews(count: int, seed: int) -> Rows:
    chooser = random.Random(seed)
    rows: Rows = []
    for index in range(count):
        side = (BAD, GOOD)[index % 2]
        text = f"The {chooser.choice(THINGS)} {chooser.choice(side)}{chooser.choice(ENDS)}."
        rows.append({"text": text, "label": ("bad", "good")[index % 2]})
    return rows


@pytest.mark.timeout(300)
def test_hadamard_on_a_few_hundred_rows_beats_the_majority_by_far(tmp_path: Path) -> None:
    """Trained, written, loaded again by the service in a fresh process, and served with the same logits."""
    write_rows(tmp_path / "data" / "train.jsonl", reviews(160, 1))
    write_rows(tmp_path / "data" / "validation.jsonl", reviews(60, 2))
    out = tmp_path / "reviews.safetensors"
    config = TrainConfig(data=str(tmp_path / "data"), task="reviews", out=str(out), device="cpu", epochs=2)
    told = Told()
    result = train(config, backbone=minilm(), progress=told)
    assert [stage for stage, _ in told.stages] == ["data", "features", "head", "adapter", "refit", "publish"]
    assert result.baseline.values["accuracy"] == 0.5
    assert result.value > 0.85
    assert result.num_body_parameters == 9216
    assert result.file is not None
    assert result.file.size_bytes < 60_000
    assert result.file.max_probe_difference < 1e-5

    served = evaluate_file(out, tmp_path / "data", backbone=minilm())
    assert served.value == pytest.approx(result.value, abs=1e-9)
    by_text = {text: row.logits for text, row in zip(served.texts, served.rows, strict=True)}
    for probe in read_adapter_file(out).manifest.probes:
        np.testing.assert_allclose(by_text[probe.text], probe.logits, rtol=1e-5, atol=1e-5)
