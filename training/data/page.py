"""The page that a run begins with: rows by split, fields, kind, labels with their counts, and the notes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from training.data.card import Card
from training.data.notes import doubts_of_rows
from training.data.reading import Reading
from training.rows.doubts import shorten_list
from training.rows.examples import Split, label_counts
from training.rows.tables import Table
from training.tasks import Task

if TYPE_CHECKING:
    from training.loop.progress import Progress


@dataclass(frozen=True)
class Page:
    """What was understood. `labels` are names with their rows in train and validation, most first."""

    sources: Mapping[str, str]
    rows: Mapping[str, int]
    text_fields: tuple[str, ...]
    label_field: str
    ignored_fields: tuple[str, ...]
    kind: str
    labels: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]

    def facts(self) -> list[tuple[str, str]]:
        """For a table of two columns."""
        counts = shorten_list([f"{name} ({count:,})" for name, count in self.labels])
        return [
            ("files", ", ".join(self.sources.values())),
            ("rows", ", ".join(f"{count:,} {split}" for split, count in self.rows.items())),
            ("text", " + ".join(self.text_fields)),
            ("label", self.label_field or "no field"),
            ("ignored", ", ".join(self.ignored_fields) or "no field"),
            ("kind", self.kind),
            ("labels", f"{len(self.labels)}: {counts}" if self.labels else "none: numbers or texts"),
        ]

    def tell(self, progress: "Progress") -> None:
        """The facts, one line each, and the notes."""
        for name, value in self.facts():
            progress.tell(f"{name:<8}{value}")
        for note in self.notes:
            progress.note(note)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "labels": dict(self.labels)}


def page_of(
    card: Card,
    reading: Reading,
    task: Task,
    tables: Mapping[str, Table],
    splits: Sequence[Split],
    notes: Sequence[str],
) -> Page:
    """The page of a data set that is ready to learn from; `notes` come before its own."""
    used = {*reading.read_fields, *card.label_fields, card.label_field}
    ignored = {field for table in tables.values() for field in table.columns if field not in used}
    rows = {split.name: len(split) for split in splits}
    rows |= {name: table.num_rows for name, table in tables.items() if name not in rows}
    found = doubts_of_rows(reading, task, tables, splits, ignored)
    return Page(
        sources={name: table.source for name, table in tables.items()},
        rows=rows,
        text_fields=reading.read_fields,
        label_field=card.label_field,
        ignored_fields=tuple(sorted(ignored)),
        kind=card.kind,
        labels=_counts(task, splits),
        notes=(*notes, *found),
    )


def _counts(task: Task, splits: Sequence[Split]) -> tuple[tuple[str, int], ...]:
    if not task.class_names:
        return ()
    counts = label_counts(target for split in splits for target in split.targets)
    most = sorted(counts.items(), key=lambda found: (-found[1], found[0]))
    return tuple((task.class_names[index], count) for index, count in most)
