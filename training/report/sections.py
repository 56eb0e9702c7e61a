"""Sections of a page about judged rows: whatever the kind of task, each shows what is there of it.

A section function gives None where its rows have nothing for it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.metrics.calibration import Confidence, calibration_error, reliability
from training.report.confusion import MOST_IN_MATRIX, block_of, confused_pairs, confusions, label_scores
from training.report.drawing import Series, histogram, matrix, scatter, shares
from training.report.page import Figure, Section, Table, columns
from training.rows.items import ChoiceItem, Item, parts_of
from training.tasks.judged import Ints, Judged

ROWS_SHOWN = 500
PAIRS_SHOWN = 40
POINTS_SHOWN = 2_000
_EXAMPLES = 5


@dataclass(frozen=True)
class Shown:
    """Judged rows with their items and their numbers in the file, and from which score on one is answered."""

    judged: Judged
    items: Sequence[Item]
    numbers: Sequence[int]
    threshold: float | None = None

    def answer(self, row: int, value: object) -> object:
        """A choice by its text, anything else as it is."""
        item = self.items[row]
        if isinstance(item, ChoiceItem) and isinstance(value, str) and value.isdigit():
            return item.choices[int(value)]
        return value

    def text(self, row: int) -> str:
        """All parts of an input, the second and further ones on lines of their own."""
        return "\n— ".join(parts_of(self.items[row]))


def sections_of(shown: Shown, before: Judged | None, lengths: "Section | None") -> list[Section]:
    """All that rows have; `before` are the same rows without the temperature."""
    found = [
        confusion_section(shown),
        pairs_section(shown),
        numbers_section(shown.judged),
        labels_section(shown.judged),
        wrong_section(shown),
        reliability_section(shown.judged, before),
        lengths,
    ]
    return [section for section in found if section is not None]


def scores_section(
    metric: str, metrics: Mapping[str, float], beside: Mapping[str, Mapping[str, float]], name: str
) -> Section:
    """Every metric, the deciding one first: of what it is `beside`, and of what is called `name`."""
    names = sorted(metrics, key=lambda one: (one != metric, one))
    rows = [(one, *(values.get(one) for values in beside.values()), metrics[one]) for one in names]
    heads = columns("metric", *(f"{other}>" for other in beside), f"{name}>")
    return Section("Scores", tables=(Table(heads, rows, lead=True),))


def confusion_section(shown: Shown) -> Section | None:
    """One label taken for another: of many, the block with most confusions."""
    judged = shown.judged
    if judged.sets is None or not judged.single:
        return None
    counts = confusions(judged)
    block = block_of(counts)
    words: tuple[str, ...] = (
        "Rows are the labels of the data, columns the answers; a cell's shade is its share of the row.",
    )
    if len(block) < len(counts):
        inside = counts[np.ix_(block, block)]
        wrong = int(counts.sum() - np.trace(counts))
        covered = int(inside.sum() - np.trace(inside))
        words += (
            f"Of {len(counts)} labels the {len(block)} that are confused most are drawn (all of up to "
            f"{MOST_IN_MATRIX}): {covered:,} of the {wrong:,} wrong rows are within them.",
        )
    names = [judged.names[label] for label in block]
    svg = matrix("confusion matrix", names, counts[np.ix_(block, block)])
    return Section("Confusion matrix", words, figures=(Figure(svg, ""),))


def pairs_section(shown: Shown) -> Section | None:
    """The pairs of labels that are taken for each other most."""
    judged = shown.judged
    if judged.sets is None:
        return None
    pairs = confused_pairs(judged)
    told = "taken for" if judged.single else "missing where this one is told"
    words = () if pairs else ("No label is confused with another.",)
    if len(pairs) > PAIRS_SHOWN:
        words = (f"The first {PAIRS_SHOWN} of {len(pairs):,} pairs.",)
    rows = [
        (
            pair.wanted,
            pair.told,
            len(pair.rows),
            ", ".join(str(shown.numbers[row]) for row in pair.rows[:_EXAMPLES]),
        )
        for pair in pairs[:PAIRS_SHOWN]
    ]
    heads = columns("label", told, "rows>", "such as row")
    return Section("Most confused pairs", words, tables=(Table(heads, rows),) if rows else ())


def numbers_section(judged: Judged) -> Section | None:
    """Numbers answered against numbers wanted."""
    if judged.numbers is None:
        return None
    wanted, told = judged.numbers
    rows = np.linspace(0, len(wanted) - 1, min(len(wanted), POINTS_SHOWN)).astype(int)
    points = list(zip(wanted[rows].tolist(), told[rows].tolist(), strict=True))
    caption = "On the line both are equal."
    if len(points) < len(wanted):
        caption += f" {len(points):,} of {len(wanted):,} rows are drawn, evenly through the file."
    svg = scatter("answers against the data", points, "in the data", "answered")
    return Section("Answers against the data", figures=(Figure(svg, caption),))


def labels_section(judged: Judged) -> Section | None:
    """Every label with its counts and scores, the one with most loss first."""
    rows = label_scores(judged)
    if not rows:
        return None
    heads = columns("label", "wanted>", "answered>", "precision>", "recall>", "F1>", "mean loss>")
    return Section("By label", tables=(Table(heads, rows, search=len(rows) > 20),))


def wrong_section(shown: Shown) -> Section:
    """The wrong rows, the surest first; of numbers those that are furthest off."""
    judged = shown.judged
    wrong = judged.wrong
    title = "Wrong rows" if judged.right is not None else "Rows furthest off"
    if not len(wrong):
        return Section(title, (f"All {judged.num_rows:,} rows are right.",))
    of = (
        f"{len(wrong):,} of {judged.num_rows:,} rows are wrong"
        if judged.right is not None
        else f"{len(wrong):,} rows"
    )
    order = "the surest first" if judged.sure is not None else "the worst first"
    capped = (
        f"; the first {ROWS_SHOWN:,} are shown, all of them are in --errors FILE.csv of trunkline evaluate"
    )
    words = (f"{of}, {order}{capped if len(wrong) > ROWS_SHOWN else ''}.",)
    return Section(title, words, tables=(rows_table(shown, wrong[:ROWS_SHOWN]),))


def rows_table(shown: Shown, rows: Ints, extra: str | None = None) -> Table:
    """Some rows with text, label and answer; searchable."""
    judged = shown.judged
    heads = columns("row>", "text~", extra or "expected", "answered", *_score_heads(judged))
    listed = [
        (
            str(shown.numbers[row]),
            shown.text(row),
            shown.answer(row, judged.wanted[row]),
            _answered(shown, row),
            *_scores(shown, row),
        )
        for row in rows.tolist()
    ]
    return Table(heads, listed, search=True)


def _answered(shown: Shown, row: int) -> object:
    """The answer; in brackets what is withheld."""
    told, sure = shown.answer(row, shown.judged.told[row]), shown.judged.sure
    if shown.threshold is None or sure is None or sure[row] >= shown.threshold:
        return told
    return f"unknown ({told})"


def _score_heads(judged: Judged) -> Iterator[str]:
    if judged.sure is not None:
        yield "score>"
    if judged.scores is not None:
        yield "best scores"
    if judged.numbers is not None:
        yield "off by>"


def _scores(shown: Shown, row: int) -> Iterator[object]:
    judged = shown.judged
    if judged.sure is not None:
        yield float(judged.sure[row])
    if judged.scores is not None:
        scores = judged.scores[row].items()
        yield " · ".join(f"{shown.answer(row, name)} {score:.3f}" for name, score in scores)
    if judged.numbers is not None:
        yield float(judged.loss[row])


def reliability_section(judged: Judged, before: Judged | None) -> Section | None:
    """How often scores are right, with the temperature and without."""
    if judged.confidence is None or not judged.num_rows:
        return None
    drawn = [("scores", "a", judged.confidence)]
    if before is not None and before.confidence is not None:
        drawn = [
            ("without temperature", "c", before.confidence),
            ("with temperature", "a", judged.confidence),
        ]
    errors = [f"{name}: {calibration_error(found):.4f}" for name, _, found in drawn]
    series = [Series(name, _curve(found), style) for name, style, found in drawn]
    svg = shares("reliability", series, "mean score", "share that is right")
    caption = "On the line, scores are probabilities; under it they are too sure."
    return Section(
        "Reliability",
        (f"Expected calibration error (15 bins of equal width; 0 is best), {'; '.join(errors)}.",),
        figures=(Figure(svg, caption),),
        tables=(_bins(judged.confidence),),
    )


def _curve(found: Confidence) -> list[tuple[float, float]]:
    return [(one.score, one.share) for one in reliability(found)]


def _bins(found: Confidence) -> Table:
    rows = [
        (f"{one.low:.2f} to {one.high:.2f}", one.count, one.score, one.share) for one in reliability(found)
    ]
    return Table(columns("scores", "answers>", "mean score>", "share that is right>"), rows)


def lengths_section(lengths: Mapping[str, Sequence[int]], limit: int) -> Section | None:
    """Tokens of texts before they are cut, by split, and how many are over the limit."""
    figures, words = [], []
    for name, found in lengths.items():
        if not found:
            continue
        over = sum(length > limit for length in found)
        words.append(
            f"{name}: {over:,} of {len(found):,} texts ({over / len(found):.1%}) are longer than {limit:,} "
            f"tokens and are cut; the longest has {max(found):,}."
        )
        svg = histogram(f"lengths of {name}", found, limit, f"tokens ({name})", "texts")
        figures.append(Figure(svg, "Special tokens are counted; orange is cut."))
    return Section("Lengths", tuple(words), figures=tuple(figures)) if figures else None


def facts_section(title: str, facts: Iterable[tuple[str, object]]) -> Section:
    """Names with their values."""
    return Section(title, tables=(Table(columns("what", "found"), [*facts]),))
