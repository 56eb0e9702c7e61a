"""An adapter file against rows of data, through the serving form: what a server would answer, and the scores.

Logits come from `ServedModel`, exactly as in the service, not from the training form. Rows are read as in
training: the file says how sources are made of them, and by which rule they were split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters_store.adapter_file import AdapterFile
from adapters_store.errors import AdapterFileError
from adapters_store.manifest import Manifest
from modeling import Adapter, Backbone, ServedModel, kind_of, load_backbone, readout_of
from modeling.readouts import DECODER_KIND
from proof.candidate import backbone_failures, candidate_of, read_file, spec_of
from proof.errors import Refused
from training.data.card import Card, Flags, read_card, stored_kind
from training.data.load import Source, as_text, labelled, paper_split, read_tables, sampled
from training.data.reading import reading_of
from training.errors import ConfigError, DataError
from training.file.publish import TextForm
from training.file.row_answers import entities_of, own_logits, told
from training.loop.device import pick_device
from training.loop.encode import Rows, encode_split
from training.loop.passes import Answered, served
from training.metrics.scores import demand_metric, read_metric
from training.metrics.texts import scores_of_texts
from training.rows.canonical import occurrences
from training.rows.examples import Split, Target
from training.rows.items import ChoiceItem, Item, TextItem
from training.rows.labels import Labels
from training.rows.tables import Table
from training.settings.checks import HEAD, TEXT_TO_TEXT
from training.tasks import TASKS, Baseline, Logits, Task


@dataclass(frozen=True)
class RowAnswer:
    """What one row is answered. `row` is its number in the file; `label` is None for a regression.

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


@dataclass(frozen=True)
class FileEvaluation:
    """Scores and answers of one adapter file on one split; `generated_metrics`: of free generation."""

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
    generated_metrics: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        return self.metrics[self.metric]

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
            "notes": list(self.notes),
        }
        if self.generated_metrics is not None:
            plain["generated_metrics"] = dict(self.generated_metrics)
        return plain | ({"rows": [vars(row).copy() for row in self.rows]} if with_rows else {})


@dataclass(frozen=True)
class Scored:
    """The rows to score, those whose majority is the baseline (train, when it is there), and their task."""

    rows: Split
    baseline_rows: Split
    task: Task
    split: str
    notes: tuple[str, ...]


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
    answered = served(ServedModel(backbone), adapter, encoded, generate=generate)
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
        return candidate_of(stored, backbone).adapter
    except Refused as error:
        raise DataError(f"task {manifest.task}: {error}") from error


def load_rows(
    data: Path,
    split: str,
    manifest: Manifest,
    flags: Flags,
    max_rows: int | None = None,
    split_rule: str | None = None,
) -> Scored:
    """Rows of `data` with targets in the adapter's order of labels, whatever the order in the data.

    Of more rows than `max_rows` a sample with the labels' shares is taken.

    Raises:
        DataError: no such split, or rows that do not fit the adapter.
    """
    rule = manifest.provenance.config.get("split_rule_used") if split_rule is None else split_rule
    rule = None if rule == "files" or data.is_file() else rule
    tables = read_tables(data)
    wanted = "train" if data.is_file() else split
    if wanted not in tables and rule is None:
        raise DataError(
            f"{data}: no {split} file; there are {', '.join(tables)}: name one of them, or a file"
        )
    card, form = _card(data, tables, flags, manifest)
    kept, told = labelled(tables, card)
    source, task, notes = _source(card, form, manifest, flags.metric, kept)
    notes = [*dict.fromkeys(note for table in kept.values() for note in table.notes), *told, *notes]
    if rule is not None:
        rows = paper_split(split, rule, source, task, max_rows)
    elif wanted not in source.tables:
        raise DataError(
            f"{tables[wanted].source}: the rows have no labels to compare with; use trunkline predict"
        )
    else:
        rows, drawn = sampled(source.split(wanted, task), task, max_rows, 0)
        notes += drawn
    if data.is_file() and data.name == Path(str(manifest.provenance.config.get("data", ""))).name:
        notes.append(f"{data.name} has the name of the file that was trained on: learnt rows score too well")
    has_train = wanted != "train" and "train" in source.tables
    train = rows
    if has_train:
        train = (
            source.split("train", task) if rule is None else paper_split("train", rule, source, task, None)
        )
    by_rule = "" if rule is None else f", split as in the paper ({rule})"
    name = f"{split if data.is_dir() else 'all rows'}{by_rule}"
    return Scored(rows, train, task, name, tuple(notes))


def _source(
    card: Card, form: TextForm | None, manifest: Manifest, metric: str | None, tables: Mapping[str, Table]
) -> tuple[Source, Task, list[str]]:
    """How rows are read into the adapter's labels, its task, and what is told of them."""
    own = DECODER_KIND if card.form == TEXT_TO_TEXT else card.task.kind
    if own != manifest.head.kind:
        shown = ", ".join(table.source for table in tables.values())
        raise DataError(f"{shown}: the data is {own}, the adapter {manifest.head.kind}; correct --kind")
    names = _names(card, manifest, form)
    reading = reading_of(card, None if form is None else form.formatter)
    given = manifest.provenance.config.get("label_names_given", True)
    labels, told = _labels(card, tables, names, given=given)
    return Source(tables, reading, labels), _task(card, manifest, metric, names, form), told


def _labels(
    card: Card, tables: Mapping[str, Table], names: tuple[str, ...], *, given: bool
) -> tuple[Labels, list[str]]:
    """By the adapter's `names`; else by the data's own names, which are then looked up among those.

    A number is a place in the adapter's names only if these did not come from rows (`given`).
    """
    found, own, field = occurrences(tables.values(), card.label_field), card.label_names, card.label_field
    if not names:
        return card.task.read_labels(found, own, field)
    if len(card.label_fields) == 1:
        labels, told = card.task.read_labels(found, names, field, places=given and own is None)
        by_place = given or names == tuple(map(str, range(len(names))))
        if labels.order and own is None and not by_place:
            raise DataError(
                f"{found[0].where}: labels are noughts and ones by place, and the adapter's names came from "
                "rows, so a place means nothing: name the places in dataset.json (label_names)"
            )
        if own is None or (labels.covers(found) and not labels.order):
            return labels, told
    labels, told = card.read_labels(found)
    return labels.within(names), told


def _card(
    data: Path, tables: Mapping[str, Table], flags: Flags, manifest: Manifest
) -> tuple[Card, TextForm | None]:
    """How to read the data: by its own card, by flags, and for the rest as in training."""
    used, spec = manifest.provenance.config, spec_of(manifest.head)
    readout = readout_of(spec)
    form = TextForm.from_config(used) if readout.decodes else None
    if form is not None:
        fields: Sequence[str] | None = form.formatter.fields
    else:
        fields = used.get("text_fields") if kind_of(spec).choices else manifest.input.fields
    kind = flags.kind or stored_kind(data) or used.get("kind") or ("free_text" if readout.writes else None)
    _check_kind(data, kind, manifest)
    flags = replace(
        flags,
        label_field_before=used.get("label_field"),
        place_names_before=tuple(used.get("place_names") or ()) or None,
        kind=kind,
        text_fields=flags.text_fields or (tuple(fields) if fields else None),
        choice_fields=flags.choice_fields or tuple(used.get("choice_fields") or ()) or None,
        form=HEAD if form is None else TEXT_TO_TEXT,
    )
    return read_card(data, tables, flags), form


def _check_kind(data: Path, kind: str | None, manifest: Manifest) -> None:
    """Before fields are looked for that another kind of data would have: a head answers one kind."""
    wanted = manifest.head.kind
    if kind in TASKS and not readout_of(spec_of(manifest.head)).decodes and TASKS[kind].kind != wanted:
        raise DataError(
            f"{data.name}: the data is {kind}, the adapter {wanted}; take other data, or correct --kind"
        )


def _names(card: Card, manifest: Manifest, form: TextForm | None) -> tuple[str, ...]:
    """What the adapter's classes are called, in its order; nothing for a regression."""
    if form is not None:
        return form.names
    if card.task.lists_choices:
        return card.label_names or ()
    return card.task.names_of(spec_of(manifest.head))


def _task(
    card: Card, manifest: Manifest, wanted: str | None, names: Sequence[str], form: TextForm | None
) -> Task:
    known = card.task.measured_by(names, spec := spec_of(manifest.head))
    labels = tuple(names) or spec.labels[:1]
    metric, _ = read_metric(card.metric, known, labels)
    if wanted is not None:
        metric = demand_metric(wanted, known, labels)
    task = card.task.build(labels, metric, card.metric, spec)
    return task if form is None else as_text(task, form.formatter).restored(spec.labels, form.scale)


def _answers(
    rows: Split, encoded: Rows, found: Logits, answered: Answered, adapter: Adapter, task: Task
) -> tuple[RowAnswer, ...]:
    return tuple(
        RowAnswer(
            row=example.row,
            expected=task.told(example.target),
            label=answer.label,
            score=answer.score,
            tokens=sum(text.num_tokens for text in encoded.of(index)),
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
