"""Which rows are held out and which are used: by a hash of the text, or as the Compacter paper splits files.

Row numbers only; knows no files, and of texts only their hash (`stratify.py`, which shares labels out).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

from training.formats.official import HALVE, THOUSAND
from training.rows.stratify import NO_LABEL, Group, groups_of, hold_out, marks_of, members_of, place_of

PAPER_SEED = 42
"""The Compacter paper's seed for every permutation of rows."""

_LARGE_ROWS = 10_000
_HELD_OUT_ROWS = 1000
_MAX_TOLD = 5
_MAX_BINS = 10


def draw_validation(
    texts: Sequence[Hashable], labels: Sequence[Sequence[int]], *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Row numbers kept and held out, both in file order.

    `labels` are class indices: one for a single label, any number for several, a bin for a number. Texts are
    as `stratify.place_of` says. Rows with the same text move together, with the labels of all of them.

    - Every label keeps a text in train. One row at least is held out where that leaves any to hold out.
    - `fraction` of the rows is held out, not counting rows that are the last text of a label. With one
      label a row and no text twice, each label gives up its share rounded up or down; with several, its share
      nearly, and the rows held out have about as many labels as the others.
    - Neither the order of the rows nor what else is in the process matters: a hash of seed and text decides.

    When rows are *added*, with one label a row and no text twice: of each label the texts with the smallest
    hashes are held out, before and after, so that a row that was held out stays so unless added rows of its
    own label come before it or its label's share is rounded down. Rows added to one label change what other
    labels hold out by at most two rows in all. With several labels a row there is no such bound; decision
    0027 has measured numbers of both. New rows are held out as well: only a validation file stays the same.
    """
    groups = hold_out(groups_of(texts, labels, f"held out {seed}"), fraction)
    held = {row for group in groups for row in group.rows}
    return [row for row in range(len(texts)) if row not in held], sorted(held)


def why_nothing(labels: Sequence[Sequence[int]], names: Sequence[str], texts: Sequence[Hashable]) -> str:
    """The sentence for a draw that held out nothing: the reason, and what helps.

    `names` are those of the classes; none where labels are numbers or free texts.
    """
    groups = groups_of(texts, labels, "")
    if len(texts) < 2:
        found = "there is one row, which is to be learnt from" if texts else "there are no rows"
        remedy = "add rows, or a validation file"
    elif len(groups) == 1:
        found = f"all {len(texts)} rows have the same text, and rows with one text stay together"
        remedy = "add rows with other texts, or a validation file"
    else:
        one, of = "row" if len(groups) == len(texts) else "text", _word(labels, names)
        found = f"{_last_ones(groups, names, one, of)}, and the last {one} of a {of[0]} is never held out"
        remedy = (
            f"add a second {one} to each, or a validation file (a larger --validation-fraction does not help)"
        )
    return f"no validation rows: {found}; {remedy}"


def _last_ones(groups: Sequence[Group], names: Sequence[str], one: str, of: tuple[str, str]) -> str:
    members = {mark: found for mark, found in members_of(groups).items() if mark >= NO_LABEL}
    last = sorted(label for label, numbers in members.items() if len(numbers) == 1)
    told = f" ({_told([_name(label, names) for label in last])})" if names else ""
    if len(last) == len(members):
        return f"each of the {len(last)} {of[1]} has only one {one}{told}"
    return f"every {one} is the only one of a {of[0]}{told}"


def _word(labels: Sequence[Sequence[int]], names: Sequence[str]) -> tuple[str, str]:
    if not names:
        return "range of values", "ranges of values"
    return ("class", "classes") if all(len(marks) == 1 for marks in labels) else ("label", "labels")


def _name(label: int, names: Sequence[str]) -> str:
    if label == NO_LABEL:
        return "none"
    return names[label] if label < len(names) else str(label)


def _told(names: Sequence[str]) -> str:
    more = f", ... {len(names) - _MAX_TOLD} more" if len(names) > _MAX_TOLD else ""
    return ", ".join(names[:_MAX_TOLD]) + more


def bins_of(values: Sequence[float], fraction: float) -> list[int]:
    """Bins of numbers for `draw_validation`: up to ten, of about as many rows each, equal numbers in one.

    By rank, so that one outlier does not make all others alike; and no more than there are rows to hold
    out, so that a bin has rows to spare.
    """
    num_bins = max(1, min(_MAX_BINS, int(len(values) * fraction)))
    first: dict[float, int] = {}
    for rank, value in enumerate(sorted(values)):
        first.setdefault(value, rank)
    return [first[value] * num_bins // len(values) for value in values]


def sample_rows(
    texts: Sequence[Hashable], labels: Sequence[Sequence[int]], num_rows: int, seed: int
) -> list[int]:
    """`num_rows` rows in file order that keep the labels' shares; all rows where there are no more.

    Every label has a row in the sample if `num_rows` is at least their number (rows without a label are one);
    else the largest labels have one each. The rest is shared out by Sainte-Laguë's divisors: of a label of
    n rows, the row at place r (0, 1, ... by a hash of seed and text) comes at (r + 1/2) / n. With several
    labels a row counts for its rarest one, so that rare labels have their share and common ones nearly.

    A sample is part of every larger sample with the same seed. The order of the rows does not matter. A text
    that stands twice may be sampled twice.
    """
    return sorted(_sampling_order(texts, labels, f"sample {seed}")[:num_rows])


def _sampling_order(texts: Sequence[Hashable], labels: Sequence[Sequence[int]], salt: str) -> list[int]:
    marks = [marks_of(one) for one in labels]
    places = _row_places(texts, marks, salt)
    order = sorted(range(len(texts)), key=lambda row: (places[row], marks[row]))
    size = Counter(mark for some in marks for mark in some)
    first = _one_of_each(order, marks, size)
    num_own = Counter(rarest := [min(some, key=lambda one: (size[one], one)) for some in marks])
    before: Counter[int] = Counter()
    due: dict[int, float] = {}
    for row in order:
        due[row] = (before[rarest[row]] + 0.5) / num_own[rarest[row]]
        before[rarest[row]] += 1
    for row in first:
        del due[row]
    return first + sorted(due, key=due.__getitem__)  # equal ones stay in order


def _row_places(texts: Sequence[Hashable], marks: Sequence[tuple[int, ...]], salt: str) -> list[int]:
    """A number for each row. A text that stands often does not come in one lump: every row has its own."""
    seen: Counter[tuple[Hashable, tuple[int, ...]]] = Counter()
    places = []
    for pair in zip(texts, marks, strict=True):
        places.append(place_of(f"{salt} {seen[pair]}", pair[0]))
        seen[pair] += 1
    return places


def _one_of_each(
    order: Sequence[int], marks: Sequence[tuple[int, ...]], size: Mapping[int, int]
) -> list[int]:
    """The first row of each label, that of the rarest last; one row may do for several."""
    first: dict[int, int] = {}
    for row in order:
        for mark in marks[row]:
            first.setdefault(mark, row)
    place = {row: place for place, row in enumerate(order)}
    covered: set[int] = set()
    chosen: list[int] = []
    for mark in sorted(first, key=lambda mark: (size[mark], -place[first[mark]])):
        if mark not in covered:
            chosen.append(first[mark])
            covered.update(marks[first[mark]])
    return chosen[::-1]


def paper_file(split: str, rule: str) -> str:
    """The file ("train", "validation" or "test") that a `split` is taken from under a rule of the paper."""
    return _FILES.get((rule, split), split)


def paper_rows(split: str, rule: str, num_rows: int, max_rows: int | None = None) -> list[int]:
    """Which of the `num_rows` rows of `paper_file` are the `split`, in the paper's order.

    `halve`: the first half (rounded down) of the permuted validation file is validation, the rest is test.
    `thousand`: the first 1,000 rows of the permuted train file are validation, the rest is train, and the
    validation file is test. `files`: as the files are. `max_rows` takes the first rows of the permutation,
    which is the paper's subsample. The permutation is `torch.randperm` with seed 42, as in the official code.
    """
    cut = _CUTS.get((rule, split))
    if cut is None:
        return list(range(num_rows)) if max_rows is None else permutation(num_rows)[:max_rows]
    first, last = cut(num_rows)
    return permutation(num_rows)[first:last][:max_rows]


def rule_for(num_train: int) -> str:
    """The rule of a data set without an official one, by the number of its train rows."""
    return HALVE if num_train < _LARGE_ROWS else THOUSAND


def permutation(num_rows: int, seed: int = PAPER_SEED) -> list[int]:
    """The row numbers in the order that the official code gives them."""
    import torch  # the rest of this file is arithmetic on lists

    return list(torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed)).tolist())


_FILES = {(HALVE, "test"): "validation", (THOUSAND, "validation"): "train", (THOUSAND, "test"): "validation"}
_CUTS: Mapping[tuple[str, str], Callable[[int], tuple[int, int]]] = {
    (HALVE, "validation"): lambda n: (0, n // 2),
    (HALVE, "test"): lambda n: (n // 2, n),
    (THOUSAND, "validation"): lambda n: (0, min(_HELD_OUT_ROWS, n)),
    (THOUSAND, "train"): lambda n: (min(_HELD_OUT_ROWS, n), n),
}
