"""An adapter file against rows of data, through the serving form: what a server would answer, and the scores.

Logits come from `ServedModel`, exactly as in the service, not from the training form. Which rows there are is
for `scored.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapters_store.adapter_file import AdapterFile
from adapters_store.errors import AdapterFileError
from adapters_store.manifest import Manifest
from modeling import Adapter, Backbone, HeadSpec, ServedModel, load_backbone, readout_of
from proof.candidate import backbone_failures, candidate_of, read_file, spec_of
from proof.errors import Refused
from training.data.card import Flags
from training.errors import ConfigError, DataError
from training.file.row_answers import entities_of, own_logits, told
from training.file.scored import load_rows
from training.loop.device import pick_device
from training.loop.encode import Rows, encode_split
from training.loop.passes import Answered, served
from training.metrics.texts import scores_of_texts
from training.report.calibrate import Answering, answering
from training.rows.examples import Split, Target
from training.rows.items import ChoiceItem, Item, TextItem
from training.tasks import Baseline, Logits, Task
from training.tasks.judged import Judged


@dataclass(frozen=True)
class RowAnswer:
    """What one row is answered. `row` is its number in the file; `label` is None for a regression, and where
    the file withholds it (`unknown`).

    `generated` is what the decoder writes freely, when that was asked for. It is the answer to free text,
    whose `score` is its word F1 and whose one logit is the log probability of a right answer.
    """

    row: int
    expected: Any
    label: str | list[str] | None
    score: float
    tokens: int
    truncated: bool
    logits: list[float]
    generated: str | None = None
    entities: list[dict[str, Any]] | None = None
    unknown: bool = False


@dataclass(frozen=True)
class FileEvaluation:
    """Scores and answers of one adapter file on one split; `generated_metrics`: of free generation.

    `logits` [N, L] are what the metrics judge, by the task `known`; `spec` says how they become answers.
    """

    task: str
    digest: str
    method: str
    split: str
    source: str
    metric: str
    metrics: Mapping[str, float]
    baseline: Baseline
    rows: tuple[RowAnswer, ...]
    texts: tuple[Item, ...]
    known: Task
    spec: HeadSpec
    logits: Logits
    targets: tuple[Target, ...]
    answering: Answering
    max_tokens: int
    generated_metrics: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        return self.metrics[self.metric]

    @property
    def judged(self) -> Judged:
        """The rows as a page shows them, nothing withheld; of free text, what was written."""
        found = self.known.judged(self.spec, self.logits, self.targets)
        if not self.known.writes:
            return found
        return replace(found, told=[row.generated for row in self.rows])

    @property
    def inputs(self) -> list[TextItem | dict[str, object]]:
        """What a server is asked for each row."""
        return [
            {"text": item.text, "choices": list(item.choices)} if isinstance(item, ChoiceItem) else item
            for item in self.texts
        ]

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
            "answering": asdict(self.answering),
            "notes": list(self.notes),
        }
        if self.generated_metrics is not None:
            plain["generated_metrics"] = dict(self.generated_metrics)
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
    split_rule: str | None = None,
    generate: bool = False,
) -> FileEvaluation:
    """Score an adapter file on the `split` of a folder, or on all rows of one file.

    `backbone` may be given when it is loaded already; else `backbone_name`, or the one named in the file, is
    loaded. `flags` override `dataset.json`, `split_rule` ("files" or a rule of the paper) the rule that the
    file was trained with. `generate` lets a text-to-text task write freely as well.

    Raises:
        DataError: the file is refused, there is no such split, or its rows do not fit the adapter.
        ConfigError: the backbone is not the one that the adapter was trained on, is only named in the file
            and not here, or cannot generate.
    """
    stored = stored_file(Path(path))
    manifest = stored.manifest
    scored = load_rows(Path(data), split, manifest, flags or Flags(), max_rows, split_rule)
    if generate and not readout_of(spec_of(manifest.head)).decodes:
        raise ConfigError(
            f"task {manifest.task} is not written by a decoder: only text-to-text tasks generate"
        )
    if backbone is None:
        backbone = load_backbone(backbone_name or named_backbone(manifest), device=pick_device(device))
    adapter = build_adapter(stored, backbone)
    rows, task = scored.task.aligned(backbone, scored.rows), scored.task
    limit = manifest.input.max_tokens
    encoded = encode_split(backbone, rows, task, limit, adapter.virtual_tokens, adapter.spec.pooling)
    answered = served(ServedModel(backbone, fast=False), adapter, encoded, generate=generate)
    found = task.found(answered.logits, answered.texts, rows.targets, answered.embedded)
    return FileEvaluation(
        task=manifest.task,
        digest=stored.digest,
        method=manifest.method.name,
        split=scored.split,
        source=rows.source,
        metric=task.metric.name,
        metrics=task.scores(found, rows.targets),
        baseline=task.baseline(scored.baseline_rows.targets, rows.targets),
        rows=_answers(rows, encoded, found, answered, adapter, task),
        texts=tuple(rows.texts),
        known=task,
        spec=adapter.spec,
        logits=found,
        targets=tuple(rows.targets),
        answering=answering(task, adapter.spec, found, rows.targets),
        max_tokens=limit,
        generated_metrics=_generated_metrics(answered.texts, rows.targets, task),
        notes=scored.notes,
    )


def stored_file(path: Path) -> AdapterFile:
    """An adapter file. Raises DataError when it is refused."""
    try:
        return read_file(path)
    except (AdapterFileError, OSError) as error:
        raise DataError(f"{path.name}: {error}") from error


def named_backbone(manifest: Manifest) -> str:
    """The backbone that a file names, where that is here: a file's word is never looked up on the hub.

    Raises:
        ConfigError: it is neither `minilm` nor a directory.
    """
    name = manifest.backbone.name
    if name == "minilm" or Path(name).is_dir():
        return name
    raise ConfigError(
        f"task {manifest.task} was trained on {name!r}, which is neither minilm nor a directory here; "
        "say where that model is with --backbone (a model directory or a hub id)"
    )


def build_adapter(stored: AdapterFile, backbone: Backbone) -> Adapter:
    """The adapter that a file holds, on the backbone that it was trained on.

    Raises:
        ConfigError: another backbone. DataError: tensors or settings that do not fit.
    """
    manifest, reference = stored.manifest, stored.manifest.backbone
    if backbone_failures(manifest, backbone):
        raise ConfigError(
            f"task {manifest.task} was trained on {reference.name} ({reference.weights_digest[:15]}...), "
            f"this is {backbone.name} ({backbone.weights_digest[:15]}...): give the right one with --backbone"
        )
    try:
        return candidate_of(stored, backbone).adapter(backbone)
    except Refused as error:
        raise DataError(f"task {manifest.task}: {error}") from error


def _answers(
    rows: Split, encoded: Rows, found: Logits, answered: Answered, adapter: Adapter, task: Task
) -> tuple[RowAnswer, ...]:
    return tuple(
        RowAnswer(
            row=example.row,
            expected=task.told(example.target),
            label=answer.label,
            score=answer.score,
            unknown=answer.unknown,
            tokens=max(text.num_tokens for text in encoded.of(index)),  # as a server says
            truncated=any(text.truncated for text in encoded.of(index)),
            logits=own_logits(answered.logits, encoded, index, adapter.spec),
            generated=None if answered.texts is None else answered.texts[index],
            entities=entities_of(answer, example.text),
        )
        for index, (example, answer) in enumerate(
            zip(rows.examples, told(found, encoded, adapter.spec, task), strict=True)
        )
    )


def _generated_metrics(
    texts: Sequence[str] | None, targets: Sequence[Target], task: Task
) -> dict[str, float] | None:
    """The paper's metrics of what was written: classes by their strings, numbers as they are.

    None where nothing was written, and for free text, whose metrics are these already.
    """
    if texts is None or task.writes:
        return None
    if not task.class_names:
        return scores_of_texts(texts, [str(target) for target in targets], None)
    digits = {label: str(index) for index, label in enumerate(task.labels)}
    told = [digits.get(text.strip(), f"no label: {text}") for text in texts]
    wanted = [digits[task.told(target)] for target in targets]
    return scores_of_texts(told, wanted, len(task.labels))
