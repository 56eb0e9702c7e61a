"""What a person should look at in rows that can be learnt from: sentences, each with where and what helps."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from training.data.card import Card
from training.data.reading import Reading
from training.rows.canonical import TargetError, occurrences
from training.rows.doubts import shorten_list
from training.rows.examples import Split, label_counts, labels_of
from training.rows.items import parts_of
from training.rows.labels import Labels
from training.rows.tables import Table
from training.tasks import Task

_UNEVEN = 10  # times as many rows as the rarest label has
_FEW_ROWS = 30


def notes_of(
    task: Task, card: Card, labels: Labels, tables: Mapping[str, Table], splits: Sequence[Split]
) -> list[str]:
    """Of labels and texts: missing, empty, few."""
    train, validation = splits
    of_labels = [*_test_notes(tables, card, task, labels), *_label_notes(task, train, validation)]
    return [*of_labels, *_text_notes(train, validation)]


def doubts_of_rows(
    reading: Reading,
    task: Task,
    tables: Mapping[str, Table],
    splits: Sequence[Split],
    ignored: Collection[str],
) -> list[str]:
    """Of rows beside rows: the same text again, on both sides, under two labels; uneven labels."""
    found = [*_repeated(task, splits), *_leaks(reading, tables, splits), *_uneven(task, splits[0])]
    return [*found, *_split_field(tables, ignored)]


def _label_notes(task: Task, train: Split, validation: Split) -> list[str]:
    if not task.class_names:
        return []
    learnt, tested = label_counts(train.targets), label_counts(validation.targets)
    if tested and not learnt.keys() & tested.keys():
        return ["no validation row has a label of the train rows: are both written alike?"]
    missing = [index for index in range(len(task.class_names)) if not learnt[index]]
    if not missing:
        return []
    shown, told = (
        shorten_list([task.class_names[index] for index in indices], 5)
        for indices in (missing, [index for index in missing if tested[index]])
    )
    return [f"no train row has the label {shown}" + (f" ({told} occur in validation)" if told else "")]


def _test_notes(tables: Mapping[str, Table], card: Card, task: Task, labels: Labels) -> list[str]:
    """Labels of a test file that are none: training does not need them, measuring will refuse them."""
    notes = []
    for one in occurrences([table for split, table in tables.items() if split == "test"], card.label_field):
        try:
            task.parse(one.value, labels)
        except TargetError as error:
            notes.append(f"{one.where}: {error}")
    return [f"labels that are none of the task's: {notes[0]}"] if notes else []


def _text_notes(train: Split, validation: Split) -> list[str]:
    notes = []
    bare = sum(not labels_of(target) for target in train.targets)
    if bare:
        notes.append(f"{bare} train rows have no label at all, which is learnt as such")
    if len(validation) < _FEW_ROWS:
        notes.append(f"only {len(validation)} validation rows: one row is {100 / len(validation):.1f} points")
    blank = [row for row in train.examples if "" in map(str.strip, parts_of(row.text))]
    halves = [row for row in blank if any(map(str.strip, parts_of(row.text)))]
    if len(blank) > len(halves):
        notes.append(f"{len(blank) - len(halves)} train rows have an empty text")
    if halves:
        notes.append(
            f"{len(halves)} of {len(train)} train rows have one empty text of several (row {halves[0].row})"
        )
    return notes


def _split_field(tables: Mapping[str, Table], ignored: Collection[str]) -> list[str]:
    """A column that says which split a row is of."""
    fields = [
        field for field in sorted(ignored) if field.strip().lower() in ("split", "set", "fold", "subset")
    ]
    return [f"the field {field!r} is not used: write a file for each split" for field in fields]


def _repeated(task: Task, splits: Sequence[Split]) -> list[str]:
    """Train texts that occur again, and those that do so with another label; before rows were held out."""
    first: dict[object, int] = {}
    again, differing = 0, dict[object, str]()
    found = [row for split in splits if split.source == splits[0].source for row in split.examples]
    rows = [row for row in found if any(map(str.strip, parts_of(row.text)))]
    rows.sort(key=lambda row: row.row)
    for place, row in enumerate(rows):
        before = rows[first.setdefault(row.text, place)]
        again += before is not row
        if before.target != row.target and row.text not in differing:
            labels = f"{task.told(before.target)!r} and {task.told(row.target)!r}"
            differing[row.text] = f"rows {before.row} and {row.row}: {labels}"
    notes = [f"{again:,} train rows repeat the text of another"] if again else []
    if differing:
        shown = next(iter(differing.values()))
        notes.append(
            f"{len(differing):,} train texts have different labels ({shown}): correct or remove them"
        )
    return notes


def _leaks(reading: Reading, tables: Mapping[str, Table], splits: Sequence[Split]) -> list[str]:
    train, validation = splits
    known, notes = set(train.texts), []
    shared = sum(text in known for text in validation.texts)
    if shared:
        notes.append(
            f"{shared} of {len(validation)} validation texts are also in train: their score is flattering"
        )
    if "test" in tables:
        learnt = set(_keys(reading, tables["train"]))
        shared = sum(key in learnt for key in _keys(reading, tables["test"]))
        if shared:
            total = tables["test"].num_rows
            notes.append(f"{shared} of {total} test texts are also in train: their score is flattering")
    return notes


def _keys(reading: Reading, table: Table) -> list[object]:
    if any(field not in table.columns for field in reading.read_fields):
        return []
    return [repr(row) for row in zip(*(table.values(f) for f in reading.read_fields), strict=True)]


def _uneven(task: Task, train: Split) -> list[str]:
    if not task.weighted:
        return []
    counts = defaultdict(int, label_counts(train.targets))
    learnt = sorted((count, index) for index, count in counts.items())
    if len(learnt) < 2 or learnt[-1][0] < _UNEVEN * learnt[0][0]:
        return []
    (fewest, rare), (most, common) = learnt[0], learnt[-1]
    return [
        f"the labels are uneven: {task.class_names[common]!r} has {most:,} rows, {task.class_names[rare]!r} "
        f"{fewest:,}; --class-weights auto counts them alike in training, --metric macro_f1 in choosing"
    ]
