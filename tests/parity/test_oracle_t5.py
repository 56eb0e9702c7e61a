"""Whole tiny T5 models of the official code: logits, gradients, five optimiser steps, generation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from modeling import Adapter, Backbone, Encoded, HeadSpec, ServedModel, decoding
from tests.conftest import SHARED_DATA
from tests.parity.official import METHODS_OF_FILES, method_of, ours
from tests.tiny import target_logits, tokenizer

pytestmark = pytest.mark.shared_data
FOLDER = SHARED_DATA.parent / "oracles" / "compacter"
FILES = sorted(
    f"{folder}/{path.stem}"
    for folder in ("t5_tiny", "t5v11_tiny")
    for path in (FOLDER / folder).glob("*.safetensors")
    if path.stem in METHODS_OF_FILES
) or ["none"]
SPEC = HeadSpec("text_to_text", ("w1", "w2"), pooling="none")


def backbone_of(folder: Path) -> Backbone:
    """The checkpoint of the recordings; the texts come as ids, so any tokenizer will do."""
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    return Backbone("t5-tiny", model, config, tokenizer("t5"), torch.float32)


def load(oracles: Path, file: str) -> tuple[Backbone, Adapter, dict[str, Tensor]]:
    """The backbone, the adapter built from the official tensors, and everything recorded."""
    folder, _, name = file.partition("/")
    recorded = load_file(oracles / f"{file}.safetensors")
    backbone = backbone_of(oracles / folder / "base")
    method = method_of(name)
    wanted = Adapter.create(backbone, method, SPEC).to_tensors()
    return backbone, Adapter.from_tensors(backbone, method, SPEC, ours(recorded, "w.", wanted)), recorded


def inputs(recorded: dict[str, Tensor]) -> tuple[list[Encoded], list[list[int]]]:
    """Source rows without their padding, and targets without what is ignored."""
    mask = recorded["in.attention_mask"].bool()
    ids = [row[keep].tolist() for row, keep in zip(recorded["in.input_ids"], mask, strict=True)]
    encoded = [Encoded(i, [0] * len(i), len(i), False) for i in ids]
    return encoded, [row[row != -100].tolist() for row in recorded["in.labels"]]


@pytest.mark.parametrize("file", FILES)
def test_forward(oracles: Path, file: str) -> None:
    backbone, adapter, recorded = load(oracles, file)
    encoded, targets = inputs(recorded)
    batch = backbone.pack(encoded, adapter.virtual_tokens)
    with adapter.attached(backbone), torch.no_grad():
        logits = target_logits(backbone, batch, targets)
        loss = decoding.target_loss(backbone, batch, targets)
    for got, want in zip(logits, recorded["out.logits"], strict=True):
        torch.testing.assert_close(got, want[: len(got)], rtol=0, atol=1e-4)
    torch.testing.assert_close(loss, recorded["out.loss"].reshape(()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("file", FILES)
def test_gradients_and_five_steps(oracles: Path, file: str) -> None:
    backbone, adapter, recorded = load(oracles, file)
    encoded, targets = inputs(recorded)
    named = {n: p for n, p in adapter.named_parameters().items() if isinstance(p, torch.nn.Parameter)}
    with safe_open(oracles / f"{file}.safetensors", "pt") as opened:
        rate = json.loads(opened.metadata()["meta"])["lr"]
    optimizer = torch.optim.AdamW(named.values(), lr=rate, weight_decay=0.0)
    losses = []
    with adapter.attached(backbone):
        for step in range(6):
            loss = decoding.target_loss(backbone, backbone.pack(encoded, adapter.virtual_tokens), targets)
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if step == 0:
                assert_gradients(named, ours(recorded, "grad.", dict(named)))
            if step < 5:
                optimizer.step()
    torch.testing.assert_close(torch.tensor(losses), recorded["train.losses"].flatten(), rtol=0, atol=1e-3)
    after = ours(recorded, "after.", dict(named))
    assert set(after) == set(named)


def assert_gradients(named: dict[str, torch.nn.Parameter], wanted: dict[str, Tensor]) -> None:
    """Within a thousandth of each tensor's largest; a gradient that is rounding noise there is noise here."""
    assert set(named) == set(wanted)
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, want in wanted.items():
        got = named[name].grad
        assert got is not None, name
        scale = max(float(want.abs().max()), 1e-3 * largest)
        assert float((got - want).abs().max()) <= 1e-3 * scale, name


@pytest.mark.parametrize("file", FILES)
def test_greedy_generation(oracles: Path, file: str) -> None:
    """Until the end of the sequence, alone and in one served batch with a row that has no adapter."""
    backbone, adapter, recorded = load(oracles, file)
    encoded, _ = inputs(recorded)
    end = int(backbone.config.eos_token_id)
    want = [row[1:].tolist() for row in recorded["out.generate_greedy_max9"]]
    want = [row[: row.index(end)] if end in row else row for row in want]
    with adapter.attached(backbone):
        got = decoding.generate_ids(backbone, backbone.pack(encoded, adapter.virtual_tokens), 8)
    assert [row[: len(w)] for row, w in zip(got, want, strict=True)] == want
    served = ServedModel(backbone)
    slot = served.install(adapter.pack())
    mixed = served.generate_ids([*encoded, encoded[0]], [slot] * len(encoded) + [0], 8)
    assert mixed[: len(encoded)] == got
    plain = backbone_of(oracles / file.partition("/")[0] / "base")
    assert mixed[-1] == decoding.generate_ids(plain, plain.pack(encoded[:1]), 8)[0]
