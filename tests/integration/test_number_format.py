"""What `dtype=auto` becomes: bfloat16 where processor, weights and stored probes bear it; and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling import Backbone, rounding
from proof import replay
from proof.replay import Tolerance
from service.settings import Settings
from tests.integration.world import TEXTS, Live, adapter_of, logits_alone

TASK = "topic"


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with fast products of bfloat16."""
    monkeypatch.setattr(rounding, "has_fast_bfloat16", lambda device: True)


def served(folder: Path, store: Path, files: dict[str, bytes], dtype: Any = "auto") -> tuple[Any, Any]:
    """What a service says of itself, and its answers, after a start with one stored task."""
    settings = Settings(backbone=str(folder), store=store, device="cpu", dtype=dtype)
    with Live(settings) as live:
        if not live.http.get("/v1/tasks").json()["tasks"]:
            assert live.push(TASK, files[TASK]).status_code == 201
    with Live(settings) as live:
        return live.http.get("/v1/info").json(), live.predict(TASK, TEXTS[:20], raw=True)["predictions"]


def differences(backbone: Backbone, predictions: Any) -> np.ndarray[Any, Any]:
    """How far logits are from those of a row alone in float32."""
    adapter = adapter_of(backbone, TASK)
    wanted = np.array([logits_alone(backbone, adapter, text) for text in TEXTS[: len(predictions)]])
    found: np.ndarray[Any, Any] = np.abs(np.array([one["logits"] for one in predictions]) - wanted)
    return found


def test_auto_is_bfloat16_where_all_agree(
    fast: None, backbone_folder: Path, backbone: Backbone, files: dict[str, bytes], tmp_path: Path
) -> None:
    info, predictions = served(backbone_folder, tmp_path / "store", files)
    assert info["dtype"] == "bfloat16"
    assert "off by 0.0" in info["dtype_reason"]
    assert 1e-4 < differences(backbone, predictions).max() < 0.2


def test_auto_is_float32_without_fast_products(
    monkeypatch: pytest.MonkeyPatch,
    backbone_folder: Path,
    backbone: Backbone,
    files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(rounding, "has_fast_bfloat16", lambda device: False)
    info, predictions = served(backbone_folder, tmp_path / "store", files)
    assert (info["dtype"], info["dtype_reason"]) == (
        "float32",
        "this processor has no fast products of bfloat16",
    )
    assert differences(backbone, predictions).max() < 1e-5


def test_states_that_object_keep_float32(
    fast: None,
    monkeypatch: pytest.MonkeyPatch,
    backbone_folder: Path,
    backbone: Backbone,
    files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """The weights are those of the file again, not rounded ones."""
    monkeypatch.setattr(rounding, "agrees", lambda off: False)
    info, predictions = served(backbone_folder, tmp_path / "store", files)
    assert info["dtype"] == "float32"
    assert "of the distance between texts" in info["dtype_reason"]
    assert differences(backbone, predictions).max() < 1e-5


def test_stored_probes_that_object_keep_float32(
    fast: None,
    monkeypatch: pytest.MonkeyPatch,
    backbone_folder: Path,
    backbone: Backbone,
    files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """No version is refused because of a format that nobody asked for."""
    served(backbone_folder, tmp_path / "store", files, "float32")
    monkeypatch.setitem(replay.TOLERANCES, torch.bfloat16, Tolerance(1e-7, 0.0))
    info, predictions = served(backbone_folder, tmp_path / "store", files)
    assert (info["dtype"], info["dtype_reason"]) == (
        "float32",
        "in bfloat16 the probes of 1 stored versions are not reproduced",
    )
    assert info["adapters"]["resident"] == 1
    assert differences(backbone, predictions).max() < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_who_asks_for_a_format_gets_it(
    dtype: str, fast: None, backbone_folder: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    info, _ = served(backbone_folder, tmp_path / "store", files, dtype)
    assert (info["dtype"], info["dtype_reason"]) == (dtype, f"dtype is {dtype}")
