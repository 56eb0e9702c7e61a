"""An adapter file against rows of data, through the serving form: what a server would answer, and the scores.

Logits come from `ServedModel`, exactly as in the service, not from the training form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapters_store.adapter_file import AdapterFile, read_adapter_file
from adapters_store.errors import AdapterFileError
from adapters_store.manifest import Manifest
from modeling import (
    METHODS,
    Adapter,
    Backbone,
    HeadSpec,
    ModelingError,
    ServedModel,
    TextItem,
    answer,
    load_backbone,
)
from training.card import Card, Flags, find_splits, read_card
from training.data import Example, Split, read_split
from training.device import pick_device
from training.encode import Rows, encode_texts, state_batches
from training.errors import ConfigError, DataError
from training.metrics import demand_metric, read_metric
from training.tasks import Baseline, Logits, Target, Task, build_task


@dataclass(frozen=True)
class RowAnswer:
    """What one row is answered. `row` is its number in the file; `label` is None for a regression."""

    row: int
    expected: Any
    label: str | list[str] | None
    score: float
    tokens: int
    truncated: bool
    logits: list[float]


@dataclass(frozen=True)
class FileEvaluation:
    """Scores and answers of one adapter file on one split."""

    task: str
    digest: str
    method: str
    split: str
    source: str
    metric: str
    metrics: Mapping[str, float]
    baseline: Baseline
    rows: tuple[RowAnswer, ...]
    texts: tuple[TextItem, ...]

    @property
    def value(self) -> float:
        """The deciding metric."""
        return self.metrics[self.metric]

    def to_dict(self, *, with_rows: bool = False) -> dict[str, Any]:
        """Plain JSON values; the rows on demand."""
        plain: dict[str, Any] = {
            "task": self.task,
            "digest": self.digest,
            "method": self.method,
            "split": self.split,
            "source": self.source,
            "num_rows": len(self.rows),
            "metric": self.metric,
            "value": self.value,
            "metrics": dict(self.metrics),
            "baseline": {"name": self.baseline.name, **self.baseline.values},
        }
        return plain | ({"rows": [vars(row).copy() for row in self.rows]} if with_rows else {})


def evaluate_file(
    path: Path | str,
    data: Path | str,
    split: str = "validation",
    *,
    backbone: Backbone | None = None,
    backbone_name: str | None = None,
    device: str = "auto",
    flags: Flags | None = None,
    max_rows: int | None = None,
) -> FileEvaluation:
    """Score an adapter file on the `split` of a folder, or on all rows of one file.

    `backbone` may be given when it is loaded already; else `backbone_name`, or the one named in the file, is
    loaded. `flags` override `dataset.json`.

    Raises:
        DataError: the file is refused, there is no such split, or its rows do not fit the adapter.
        ConfigError: the backbone is not the one that the adapter was trained on.
    """
    stored = _read(Path(path))
    manifest = stored.manifest
    rows, baseline_rows, task = _load_rows(Path(data), split, manifest, flags or Flags(), max_rows)
    if backbone is None:
        backbone = load_backbone(backbone_name or manifest.backbone.name, device=pick_device(device))
    adapter = _build(stored, backbone)
    encoded = encode_texts(backbone, rows.texts, manifest.input.max_tokens)
    logits = served_logits(backbone, adapter, encoded)
    return FileEvaluation(
        task=manifest.task,
        digest=stored.digest,
        method=manifest.method.name,
        split=split if Path(data).is_dir() else "all rows",
        source=rows.source,
        metric=task.metric.name,
        metrics=task.scores(logits, rows.targets),
        baseline=task.baseline(baseline_rows.targets, rows.targets),
        rows=_answers(rows, encoded, logits, adapter.spec, task),
        texts=tuple(rows.texts),
    )


def served_logits(backbone: Backbone, adapter: Adapter, rows: Rows) -> Logits:
    """Logits [N, L] of all rows through the serving form."""
    model = ServedModel(backbone)
    slot = model.install(adapter.pack())
    body = model.body_slot(slot)
    logits = np.empty((len(rows.encoded), len(adapter.spec.labels)), dtype=np.float32)
    for batch in state_batches(rows):
        reads = [(index, slot) for index in range(len(batch))]
        logits[batch] = np.stack(model.run(rows.take(batch), [body] * len(batch), reads))
    return logits


def _read(path: Path) -> AdapterFile:
    try:
        return read_adapter_file(path)
    except (AdapterFileError, OSError) as error:
        raise DataError(f"{path.name}: {error}") from error


def _build(stored: AdapterFile, backbone: Backbone) -> Adapter:
    manifest, head = stored.manifest, stored.manifest.head
    reference = manifest.backbone
    if (reference.config_digest, reference.weights_digest) != (
        backbone.config_digest,
        backbone.weights_digest,
    ):
        raise ConfigError(
            f"task {manifest.task} was trained on {reference.name} ({reference.weights_digest[:15]}...), "
            f"this is {backbone.name} ({backbone.weights_digest[:15]}...): give the right backbone"
        )
    spec = HeadSpec(head.kind, tuple(head.labels), head.pooling, head.threshold, head.low, head.high)
    try:
        method = METHODS[manifest.method.name].from_config(dict(manifest.method.config))
        return Adapter.from_tensors(backbone, method, spec, stored.tensors)
    except ModelingError as error:
        raise DataError(f"task {manifest.task}: {error}") from error


def _load_rows(
    data: Path, split: str, manifest: Manifest, flags: Flags, max_rows: int | None
) -> tuple[Split, Split, Task]:
    """The rows to score, the rows whose majority is the baseline (train, when it is there), and the task."""
    files = find_splits(data)
    path = data if data.is_file() else files.get(split)
    if path is None:
        raise DataError(f"{data}: no {split} file; there are {', '.join(files)}: name one of them, or a file")
    head = manifest.head
    flags = replace(flags, text_fields=flags.text_fields or tuple(manifest.input.fields))
    card = read_card(data, flags)
    if card.head_kind != head.kind:
        raise DataError(f"{path.name}: the data is {card.head_kind}, the adapter {head.kind}; correct --kind")
    task = _task(card, manifest, flags.metric)
    rows = _read_rows(split, path, card, task, max_rows)
    has_train = data.is_dir() and split != "train" and "train" in files
    return rows, _read_rows("train", files["train"], card, task, None) if has_train else rows, task


def _task(card: Card, manifest: Manifest, wanted: str | None) -> Task:
    head = manifest.head
    metric, _ = read_metric(card.metric, head.kind, head.labels)
    if wanted is not None:
        metric = demand_metric(wanted, head.kind, head.labels)
    value_range = (head.low, head.high) if head.low is not None and head.high is not None else None
    return build_task(
        head.kind, head.labels, metric, card.metric, threshold=head.threshold, value_range=value_range
    )


def _read_rows(name: str, path: Path, card: Card, task: Task, max_rows: int | None) -> Split:
    """Rows with targets in the adapter's order of labels, whatever the order in the data."""
    names = task.labels if card.label_names is None else card.label_names
    if task.kind == "regression" or tuple(names) == task.labels:
        return read_split(name, path, card.text_fields, card.label_field, task, max_rows)
    own = build_task(task.kind, names, task.metric, None)
    rows = read_split(name, path, card.text_fields, card.label_field, own, max_rows)
    return replace(rows, examples=tuple(_translated(e, names, task.labels, path) for e in rows.examples))


def _translated(example: Example, names: Sequence[str], labels: Sequence[str], path: Path) -> Example:
    def move(index: int) -> int:
        if names[index] not in labels:
            raise DataError(
                f"{path.name}, row {example.row}: label {names[index]!r} is not one of the adapter's; "
                "evaluate it on data with its own labels"
            )
        return list(labels).index(names[index])

    target: Target = example.target
    moved = tuple(sorted(move(i) for i in target)) if isinstance(target, tuple) else move(int(target))
    return replace(example, target=moved)


def _answers(rows: Split, encoded: Rows, logits: Logits, spec: HeadSpec, task: Task) -> tuple[RowAnswer, ...]:
    found = []
    for example, tokens, values in zip(rows.examples, encoded.encoded, logits, strict=True):
        told = answer(spec, values, top_k=None, raw=False)
        expected = _expected(example.target, task)
        logits_list = [float(v) for v in values]
        found.append(
            RowAnswer(
                example.row,
                expected,
                told.label,
                told.score,
                tokens.num_tokens,
                tokens.truncated,
                logits_list,
            )
        )
    return tuple(found)


def _expected(target: Target, task: Task) -> Any:
    if task.kind == "regression":
        return target
    if isinstance(target, tuple):
        return [task.labels[i] for i in target]
    return task.labels[int(target)]
