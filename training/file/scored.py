"""The rows of data that an adapter file is scored on: read as in training, in the adapter's order of labels.

The file says how sources are made of rows, and by which rule they were split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters_store.manifest import Manifest
from modeling import kind_of, readout_of
from modeling.readouts import DECODER_KIND
from proof.candidate import spec_of
from training.data.card import Card, Flags, read_card, stored_kind
from training.data.load import Source, as_text, labelled, paper_split, read_tables, sampled
from training.data.reading import reading_of
from training.errors import DataError
from training.file.publish import TextForm
from training.metrics.scores import demand_metric, read_metric
from training.rows.canonical import occurrences
from training.rows.examples import Split
from training.rows.labels import Labels
from training.rows.tables import Table
from training.settings.checks import HEAD, TEXT_TO_TEXT
from training.tasks import TASKS, Task


@dataclass(frozen=True)
class Scored:
    """The rows to score, those whose majority is the baseline (train, when it is there), and their task."""

    rows: Split
    baseline_rows: Split
    task: Task
    split: str
    notes: tuple[str, ...]


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
