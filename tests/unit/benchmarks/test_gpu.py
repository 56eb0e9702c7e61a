"""The measurements for a GPU: they refuse without one, and everything but the device is run here."""

from __future__ import annotations

import sys
from copy import deepcopy
from functools import partial

import pytest
import torch
from transformers import PreTrainedConfig

from benchmarks import gpu
from tests.tiny import tiny_backbone


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 1
    assert capsys.readouterr() == ("", gpu.REFUSAL + "\n")


def small(shape: str) -> PreTrainedConfig:
    config = deepcopy(tiny_backbone("t5" if shape.startswith("t5") else "bert").config)
    config.vocab_size, config.max_position_embeddings = 2000, 160
    return config


def test_all_tables_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "architecture", small)
    monkeypatch.setattr(gpu, "TASKS", 3)
    monkeypatch.setattr(gpu, "EXCHANGES", 3)
    monkeypatch.setattr(gpu, "AT_A_TIME", 4)
    shapes = ["bert-base", "t5-base"]  # MiniLM is that of the residents
    sets = {"hadamard": ("hadamard",), "both": ("hadamard", "lora")}
    found = gpu.measure(partial(gpu.backbone_of, device="cpu"), shapes, sets, 2, [2], 10)
    for shape in shapes:
        paths = ["reference"] if shape == "t5-base" else ["recorded", "reference"]
        names = {f"bare, {paths[0]} / library, padded"}
        names |= {f"{name}, {paths[0]} / bare, {paths[0]}" for name in sets}
        if len(paths) > 1:
            names |= {f"{name}, recorded / {name}, reference" for name in ("bare", *sets)}
        told = {key for key in found["throughput_ratios"] if key.startswith(f"{shape}, 2 rows: ")}
        assert told == {f"{shape}, 2 rows: {name}" for name in names}
    assert found["residency"]["residents"] == 10
    assert found["residency"]["recorded_in_exchanges"] == 0
    assert found["residency"]["bytes"] > 10 * 384 * 4
