"""What a file gets wrong on rows: the page of a run for new rows, or the rows alone as CSV or JSON lines."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from training.errors import ConfigError
from training.file.evaluate import FileEvaluation
from training.report.calibrate import Answering, Calibration
from training.report.page import Page, Section, check_place, write_page
from training.report.sections import Shown, facts_section, lengths_section, scores_section, sections_of


def check_errors_path(path: Path, data: Path) -> None:
    """Raises ConfigError for another ending, a place that cannot be written, and a file of the data's own."""
    if path.suffix.lower() not in _WRITERS:
        raise ConfigError(
            f"--errors is {path.name!r}; allowed: a file that ends in {', '.join(_WRITERS)} (a page, or the "
            "wrong rows as a table)"
        )
    check_place("--errors", path)
    if path.exists() and any(path.samefile(own) for own in (data, data / path.name) if own.exists()):
        raise ConfigError(f"--errors is {path.name!r}, which is a file of the data: name another")


def write_errors(path: Path, found: FileEvaluation) -> None:
    """In the form of the ending. Where nothing is right or wrong, all rows, those furthest off first."""
    _WRITERS[path.suffix.lower()](path, found)


def evaluation_page(found: FileEvaluation) -> Page:
    """Everything that is known of a file on these rows."""
    judged, before = found.judged, None
    if found.answering.temperature is not None:
        bare = Calibration(0).applied(found.spec)
        before = found.known.judged(bare, found.logits, found.targets)
    shown = Shown(judged, found.texts, [row.row for row in found.rows], found.answering.threshold)
    lengths = lengths_section({found.split: [row.tokens for row in found.rows]}, found.max_tokens)
    sections = [
        scores_section(
            found.metric, found.metrics, {found.baseline.name: found.baseline.values}, found.method
        ),
        *_generated(found),
        *_answering(found.answering),
        *([Section("Notes", points=found.notes)] if found.notes else []),
        *sections_of(shown, before, lengths),
    ]
    words = (f"{len(found.rows):,} rows of {found.source} ({found.split}), answered by {found.digest}.",)
    return Page(f"{found.task}: {found.method} on {found.source}", words, sections)


def _generated(found: FileEvaluation) -> Iterator[Section]:
    if found.generated_metrics is not None:
        yield facts_section("Generated freely", found.generated_metrics.items())


def _answering(found: Answering) -> Iterator[Section]:
    if found.threshold is not None:
        facts = [
            ("no label under a score of", found.threshold),
            ("share of rows that are answered", found.coverage),
            ("share of these that is wrong", found.error),
        ]
        yield facts_section("Withheld labels", facts)


def wrong_rows(found: FileEvaluation) -> Iterator[dict[str, Any]]:
    """The wrong rows in the order of the page, inputs as the HTTP interface names their parts."""
    judged = found.judged
    for row in judged.wrong.tolist():
        item = found.inputs[row]
        parts = item if isinstance(item, dict) else {"text": item} if isinstance(item, str) else _pair(item)
        told: dict[str, Any] = {
            "row": found.rows[row].row,
            **parts,
            "expected": judged.wanted[row],
            "answered": judged.told[row],
        }
        if judged.sure is not None:
            told["score"] = float(judged.sure[row])
        if judged.scores is not None:
            told["scores"] = judged.scores[row]
        if found.answering.threshold is not None:
            told["unknown"] = found.rows[row].unknown
        yield told | {"loss": float(judged.loss[row])}


def _pair(item: tuple[str, str]) -> dict[str, object]:
    return {"text": item[0], "text_pair": item[1]}


def _write_page(path: Path, found: FileEvaluation) -> None:
    write_page(path, evaluation_page(found))


def _write_csv(path: Path, found: FileEvaluation) -> None:
    """Lists and mappings as JSON; half an emoji, which UTF-8 cannot hold, as an escape."""
    rows = list(wrong_rows(found))
    names = list(rows[0]) if rows else ["row", "text", "expected", "answered"]
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([_cell(row[name]) for name in names] for row in rows)


def _write_lines(path: Path, found: FileEvaluation) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        for row in wrong_rows(found):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")  # an escape of JSON, too


def _cell(value: object) -> object:
    structured = isinstance(value, list | tuple | dict)
    return json.dumps(value, ensure_ascii=False) if structured else value


_WRITERS: Mapping[str, Callable[[Path, FileEvaluation], None]] = {
    ".html": _write_page,
    ".csv": _write_csv,
    ".jsonl": _write_lines,
}
