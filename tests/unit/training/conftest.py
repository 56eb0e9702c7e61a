"""Made-up tasks over the words of the tiny backbones: learnable, small, and of every kind."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modeling import Backbone
from proof.check import CheckReport
from proof.replay import ProbeReport
from tests.tiny import WORDS, tiny_backbone
from training.settings.config import TrainConfig

Rows = list[dict[str, Any]]
LABELS = ["low", "middle", "high"]


def words(chooser: random.Random, group: int, count: int) -> str:
    """Mostly words of one third of the vocabulary."""
    third = len(WORDS) // 3
    own = WORDS[group * third : (group + 1) * third]
    return " ".join(chooser.choice(own if chooser.random() < 0.95 else WORDS) for _ in range(count))


def make_rows(kind: str, count: int, seed: int) -> Rows:
    """Rows whose label is the group that their words come from."""
    chooser = random.Random(seed)
    rows: Rows = []
    for index in range(count):
        group = index % 3
        text = words(chooser, group, chooser.randint(2, 12))
        row: dict[str, Any] = {"text": text}
        if kind == "sentence_pair":
            same = chooser.random() < 0.5
            row["text_pair"] = words(chooser, group if same else (group + 1) % 3, chooser.randint(2, 12))
            row["label"] = int(same)
        elif kind == "regression":
            row["label"] = 10.0 * group + chooser.random()
        elif kind == "multi_label":
            row["label"] = [LABELS[group]] if index % 7 else []
        elif kind == "multiple_choice":
            row["label"] = chooser.randrange(2)
            groups = [(group + (place != row["label"])) % 3 for place in range(2)]
            row["choices"] = [words(chooser, own, chooser.randint(2, 8)) for own in groups]
        else:
            row["label"] = group
        rows.append(row)
    return rows


def write_rows(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_task(folder: Path, kind: str, *, num_train: int = 60, num_validation: int = 30) -> Path:
    """A folder with both splits and a card."""
    write_rows(folder / "train.jsonl", make_rows(kind, num_train, 1))
    write_rows(folder / "validation.jsonl", make_rows(kind, num_validation, 2))
    fields = ["text", "text_pair"] if kind == "sentence_pair" else ["text"]
    names = {"sentence_pair": ["different", "same"], "regression": [], "multiple_choice": []}
    card = {"kind": kind, "text_fields": fields, "label_names": names.get(kind, LABELS)}
    (folder / "dataset.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def write_text_task(folder: Path, **sizes: int) -> Path:
    """A single-sentence task whose labels are words of the tiny tokenizer: a decoder can write them."""
    write_task(folder, "single_sentence", **sizes)
    card = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    card |= {"label_names": ["w1", "w30", "w60"], "name": "thirds"}
    (folder / "dataset.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


@pytest.fixture
def task_folder(tmp_path: Path) -> Callable[..., Path]:
    """Build the folder of a task of some kind."""

    def build(kind: str = "single_sentence", **sizes: int) -> Path:
        return write_task(tmp_path / "data" / kind, kind, **sizes)

    return build


@pytest.fixture
def backbone() -> Backbone:
    return tiny_backbone("bert")


def quick(data: Path, out: Path, **changes: Any) -> TrainConfig:
    """A run of a second: few epochs, small batches."""
    settings: dict[str, Any] = {
        "data": str(data),
        "task": "demo",
        "out": str(out),
        "device": "cpu",
        "precision": "float32",  # the same numbers on every processor
        "epochs": 3,
        "lr": 5e-3,
        "batch_size": 8,
        "max_tokens": 32,
    }
    return TrainConfig(**(settings | changes))


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.ended: list[str] = []
        self.losses: list[float | None] = []
        self.epochs: list[tuple[int, str, float, float]] = []
        self.notes: list[str] = []

    def begin(self, stage: str, total_steps: int) -> None:
        self.stages.append((stage, total_steps))

    def step(self, loss: float | None) -> None:
        self.losses.append(loss)

    def evaluated(self, epoch: int, metric: str, value: float, best: float) -> None:
        self.epochs.append((epoch, metric, value, best))

    def end(self, stage: str) -> None:
        self.ended.append(stage)

    def tell(self, message: str) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)


def agree(path: Path, backbone: str) -> CheckReport:
    """A fresh process that finds nothing wrong; the real one is in tests/integration_training."""
    from adapters_store.adapter_file import read_adapter_file

    del backbone
    file = read_adapter_file(path)
    task, head = file.manifest.task, file.manifest.head
    probes = ProbeReport(len(file.manifest.probes), 0.0)
    return CheckReport(
        task, file.manifest.method.name, head.kind, tuple(head.labels), file.digest, file.size_bytes, probes
    )


@contextmanager
def counted(layer: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Outputs of the real forward pass of a layer."""
    calls: list[Tensor] = []
    real: Callable[..., Tensor] = type(layer).forward

    def noting(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        output = real(self, *args, **kwargs)
        if self is layer:
            calls.append(output)
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(layer), "forward", noting)
        yield calls
