"""A drawn validation split, a sample, and the paper's own splits."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.rows.items import ChoiceItem
from training.rows.split import (
    bins_of,
    draw_validation,
    paper_file,
    paper_rows,
    permutation,
    rule_for,
    why_nothing,
)

Row = tuple[str, tuple[int, ...]]

ONE_LABEL = st.integers(0, 5).map(lambda label: (label,))
SEVERAL = st.lists(st.integers(0, 5), max_size=4).map(tuple)
TEXTS = st.integers(0, 60).map("text {}".format)


def rows_of(labels: st.SearchStrategy[tuple[int, ...]], least: int = 2) -> st.SearchStrategy[list[Row]]:
    """Rows whose texts may stand several times, with the same labels or with others."""
    return st.lists(st.tuples(TEXTS, labels), min_size=least, max_size=120)


def one_label_each(sizes: Sequence[int], name: str = "") -> list[Row]:
    """Rows sorted by label, no text twice."""
    return [(f"{name}{label} {i}", (label,)) for label, size in enumerate(sizes) for i in range(size)]


def held_out(rows: Sequence[Row], fraction: float = 0.1, seed: int = 0) -> list[Row]:
    _, held = draw_validation([t for t, _ in rows], [m for _, m in rows], fraction=fraction, seed=seed)
    return [rows[row] for row in held]


def labels_of(rows: Sequence[Row]) -> Counter[int]:
    """How many rows have each label; -1: those with none."""
    return Counter(mark for _, marks in rows for mark in set(marks) or {-1})


def texts_of(rows: Sequence[Row]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for text, marks in rows:
        for mark in marks or (-1,):
            found[mark].add(text)
    return found


def many_labels(num_rows: int, num_labels: int, least: int, most: int, skew: float, seed: int) -> list[Row]:
    """Rows with `least` to `most` labels; label i is (i + 1) ** -skew as common as the first."""
    chooser = random.Random(seed)
    weights = [(i + 1) ** -skew for i in range(num_labels)]
    rows = []
    for row in range(num_rows):
        wanted, marks = chooser.randint(least, most), set[int]()
        while len(marks) < wanted:
            marks.update(chooser.choices(range(num_labels), weights))
        rows.append((f"{seed} {row}", tuple(sorted(marks))))
    return rows


# ------------------------------------------------------------------------------------------ held-out rows


@given(rows=rows_of(ONE_LABEL) | rows_of(SEVERAL), fraction=st.floats(0.01, 0.6), seed=st.integers(0, 9))
def test_a_split_is_complete_and_leaves_every_label_in_train(
    rows: list[Row], fraction: float, seed: int
) -> None:
    texts, labels = [text for text, _ in rows], [marks for _, marks in rows]
    kept, held = draw_validation(texts, labels, fraction=fraction, seed=seed)
    assert sorted(kept + held) == list(range(len(rows)))
    assert (kept, held) == (sorted(kept), sorted(held))
    assert not {texts[i] for i in kept} & {texts[i] for i in held}
    assert labels_of([rows[i] for i in kept]).keys() == labels_of(rows).keys()


@given(rows=rows_of(ONE_LABEL) | rows_of(SEVERAL), fraction=st.floats(0.001, 0.6))
def test_something_is_held_out_wherever_anything_can_be_and_else_there_is_a_reason(
    rows: list[Row], fraction: float
) -> None:
    alone = {text for texts in texts_of(rows).values() if len(texts) == 1 for text in texts}
    assert bool(held_out(rows, fraction)) == bool({text for text, _ in rows} - alone)
    texts, labels = [text for text, _ in rows], [marks for _, marks in rows]
    if not held_out(rows, fraction):
        assert "; add" in why_nothing(labels, list("abcdef"), texts)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    percent=st.integers(1, 50),
    seed=st.integers(0, 9),
)
def test_with_one_label_a_row_shares_and_total_are_right_within_rounding(
    sizes: list[int], percent: int, seed: int
) -> None:
    held = labels_of(held_out(one_label_each(sizes), percent / 100, seed))
    shares = {label: Fraction(size * percent, 100) for label, size in enumerate(sizes) if size > 1}
    wanted = max(1, floor(sum(shares.values()) + Fraction(1, 2))) if shares else 0
    assert sum(held.values()) == wanted
    assert all(floor(share) <= held[label] <= ceil(share) for label, share in shares.items())


@pytest.mark.parametrize(
    ("sizes", "fraction", "least_and_most"),
    [
        ([100, 50, 10], 0.1, [(10, 10), (5, 5), (1, 1)]),
        ([8, 8], 0.1, [(1, 1), (1, 1)]),  # 1.6 rows
        ([8] * 150, 0.1, [(0, 1)] * 150),
        ([14, 16], 0.1, [(1, 2), (1, 2)]),
        ([1, 1, 2], 0.5, [(0, 0), (0, 0), (1, 1)]),  # never the last of a label
        ([1] * 1000 + [10] * 10, 0.1, [(0, 0)] * 1000 + [(1, 1)] * 10),  # nor others in its place
        ([3], 0.01, [(1, 1)]),  # but one at least
        ([10, 1], 0.9, [(9, 9), (0, 0)]),
    ],
)
def test_shares_by_hand(sizes: list[int], fraction: float, least_and_most: list[tuple[int, int]]) -> None:
    held = labels_of(held_out(one_label_each(sizes), fraction))
    assert all(least <= held[label] <= most for label, (least, most) in enumerate(least_and_most))
    wanted = sum(size for size in sizes if size > 1) * fraction
    assert sum(held.values()) == max(1, floor(wanted + 0.5))


def test_which_labels_are_rounded_up_is_as_probable_as_what_is_left_of_their_share() -> None:
    """0.3 and 0.8 of a row: not the second alone, though its remainder is always the larger."""
    held = [labels_of(held_out(one_label_each([3] * 100 + [8] * 100), seed=seed)) for seed in range(10)]
    assert mean(sum(one[label] for label in range(100)) for one in held) == pytest.approx(30, abs=5)
    assert mean(sum(one[label] for label in range(100, 200)) for one in held) == pytest.approx(80, abs=5)


def test_any_row_may_be_drawn_and_the_seed_decides() -> None:
    rows = one_label_each([6])
    drawn = {tuple(held_out(rows, 0.2, seed)) for seed in range(60)}
    assert drawn == {(row,) for row in rows}


@given(
    rows=rows_of(ONE_LABEL) | rows_of(SEVERAL),
    fraction=st.floats(0.01, 0.6),
    chooser=st.randoms(use_true_random=False),
)
def test_the_order_of_the_rows_does_not_matter(
    rows: list[Row], fraction: float, chooser: random.Random
) -> None:
    mixed = chooser.sample(rows, len(rows))
    assert sorted(held_out(rows, fraction)) == sorted(held_out(mixed, fraction))


@pytest.mark.parametrize(
    ("texts", "recorded"),
    [
        ([f"row {i} \u00e9" for i in range(30)], [10, 11, 18]),
        ([f"\ud83d {i}" for i in range(30)], [8, 17, 28]),  # half of an emoji
        ([(f"a{i}", "b") for i in range(30)], [5, 11, 21]),
        ([ChoiceItem(f"a{i}", ("b", "c")) for i in range(30)], [19, 22, 29]),
    ],
)
def test_every_machine_draws_the_same_whatever_a_text_consists_of(
    texts: list[Hashable], recorded: list[int]
) -> None:
    assert draw_validation(texts, [(0,)] * 30, fraction=0.1, seed=7)[1] == recorded


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    more=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    fraction=st.sampled_from([0.05, 0.1, 0.25]),
)
def test_of_each_label_an_old_row_leaves_only_for_rows_before_it(
    sizes: list[int], more: list[int], fraction: float
) -> None:
    """Of the old rows, those held out after are those before, some more, or some fewer: one order."""
    old = one_label_each(sizes)
    new = [*old, *one_label_each(more, "new ")]
    before, after = texts_of(held_out(old, fraction)), texts_of(held_out(new, fraction))
    for label in range(len(sizes)):
        stayed = {text for text in after[label] if not text.startswith("new ")}
        assert stayed <= before[label] or stayed >= before[label]
        newcomers = len(after[label]) - len(stayed)
        assert len(before[label] - stayed) <= newcomers + 1


@given(
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=12),
    more=st.integers(1, 60),
    fraction=st.sampled_from([0.05, 0.1, 0.25]),
)
def test_rows_added_to_one_label_move_at_most_two_rows_of_the_others(
    sizes: list[int], more: int, fraction: float
) -> None:
    old = one_label_each(sizes)
    new = [*old, *one_label_each([more], "new ")]
    before, after = ({row for row in held_out(rows, fraction) if row[1] != (0,)} for rows in (old, new))
    assert len(before ^ after) <= 2


def test_most_drawn_rows_stay_when_rows_of_every_label_are_added() -> None:
    old, more = one_label_each([100] * 30), one_label_each([10] * 30, "new ")
    before, after = set(held_out(old)), set(held_out([*old, *more]))
    assert len(before & after) >= 0.93 * len(before)
    assert len(after) == 330


def test_most_drawn_rows_stay_with_several_labels_as_well() -> None:
    old, more = many_labels(1000, 20, 1, 4, 0.5, seed=1), many_labels(100, 20, 1, 4, 0.5, seed=2)
    before, after = set(held_out(old)), set(held_out([*old, *more]))
    assert len(before & after) >= 0.8 * len(before)


@pytest.mark.parametrize(
    "shape", [(200, 20, 4, 7, 0.0), (1000, 12, 1, 5, 0.0), (1000, 28, 0, 4, 1.0), (3000, 50, 1, 3, 1.2)]
)
def test_several_labels_are_shared_alike_however_seldom_a_set_of_them_repeats(
    shape: tuple[int, int, int, int, float],
) -> None:
    ratios, errors, by_chance = [], [], []
    for seed in range(5):
        rows = many_labels(*shape, seed)
        held = held_out(rows, 0.1, seed)
        assert len(held) == pytest.approx(len(rows) / 10, rel=0.04)
        ratios.append(mean(len(m) for _, m in held) / mean(len(m) for _, m in rows))
        errors.append(distance(held, rows))
        by_chance.append(distance(random.Random(seed).sample(rows, len(rows) // 10), rows))
    assert mean(ratios) == pytest.approx(1, abs=0.04)
    assert mean(errors) < 0.75 * mean(by_chance)


def test_rare_labels_beside_a_common_one_have_their_shares_first() -> None:
    rows = [(f"t{i}", (0, 1 + i // 10) if i < 100 else (0,)) for i in range(200)]
    for seed in range(10):
        assert labels_of(held_out(rows, 0.1, seed)) == {0: 20} | dict.fromkeys(range(1, 11), 1)


def distance(held: Sequence[Row], rows: Sequence[Row]) -> float:
    """How many rows a label is away from its share, on average."""
    found = labels_of(held)
    return mean(abs(found[label] - count / 10) for label, count in labels_of(rows).items())


def test_a_text_that_fills_half_the_file_is_not_half_the_validation_rows() -> None:
    rows = [*one_label_each([500]), *[("", (0,))] * 500]
    assert {len(held_out(rows, 0.1, seed)) for seed in range(20)} == {100}


def test_texts_that_all_stand_several_times_are_held_out_as_near_to_the_share_as_they_go() -> None:
    assert len(held_out(one_label_each([10, 10]) * 3)) == 6
    assert len(held_out(one_label_each([8, 8]) * 4)) in (4, 8)  # of 6.4
    assert len(held_out(one_label_each([3]) * 50)) == 50  # more than the share, but nothing otherwise


def test_a_text_with_two_answers_counts_for_both() -> None:
    rows = [(f"t{i}", (label,)) for i in range(30) for label in (0, 1)]
    assert labels_of(held_out(rows)) == {0: 3, 1: 3}


# ------------------------------------------------------------------------------- why nothing is held out


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ([], "ab", "no validation rows: there are no rows; add rows, or a validation file"),
        (
            [("t", (0,))],
            "ab",
            "no validation rows: there is one row, which is to be learnt from; "
            "add rows, or a validation file",
        ),
        (
            [("t", (0,)), ("t", (1,)), ("t", (0,))],
            "ab",
            "no validation rows: all 3 rows have the same text, and rows with one text stay together; "
            "add rows with other texts, or a validation file",
        ),
        (
            one_label_each([1] * 7),
            "abcdefg",
            "no validation rows: each of the 7 classes has only one row (a, b, c, d, e, ... 2 more), and the "
            "last row of a class is never held out; add a second row to each, or a validation file (a larger "
            "--validation-fraction does not help)",
        ),
        (
            one_label_each([1] * 2) * 3,
            "ab",
            "no validation rows: each of the 2 classes has only one text (a, b), and the last text of a "
            "class is never held out; add a second text to each, or a validation file (a larger "
            "--validation-fraction does not help)",
        ),
        (
            [("t", (0,)), ("u", (1, 2))],
            "abc",
            "no validation rows: each of the 3 labels has only one row (a, b, c), and the last row of a "
            "label is never held out; add a second row to each, or a validation file (a larger "
            "--validation-fraction does not help)",
        ),
        (
            [("t", (0, 2)), ("u", (1, 2)), ("v", ())],
            "abc",
            "no validation rows: every row is the only one of a label (none, a, b), and the last row of a "
            "label is never held out; add a second row to each, or a validation file (a larger "
            "--validation-fraction does not help)",
        ),
        (
            one_label_each([1] * 3),
            "",
            "no validation rows: each of the 3 ranges of values has only one row, and the last row of a "
            "range of values is never held out; add a second row to each, or a validation file (a larger "
            "--validation-fraction does not help)",
        ),
    ],
)
def test_the_reason_and_what_helps(rows: list[Row], names: str, message: str) -> None:
    assert not held_out(rows)
    assert why_nothing([marks for _, marks in rows], list(names), [text for text, _ in rows]) == message


@given(values=st.lists(st.floats(-5, 5), min_size=1, max_size=200), fraction=st.floats(0.01, 0.5))
def test_bins_follow_the_order_of_numbers_and_are_no_more_than_rows_to_hold_out(
    values: list[float], fraction: float
) -> None:
    bins = dict(zip(values, bins_of(values, fraction), strict=True))
    assert [bins[value] for value in values] == bins_of(values, fraction)  # equal numbers in one
    ordered = [bins[value] for value in sorted(bins)]
    assert ordered == sorted(ordered)
    assert ordered[-1] < max(1, min(10, len(values) * fraction))


def test_a_few_different_numbers_have_rows_to_hold_out() -> None:
    values = [0.1, 7.5, 1e9, 3.0, 2.0]
    assert len(held_out([(str(v), (b,)) for v, b in zip(values, bins_of(values, 0.1), strict=True)])) == 1
    assert Counter(bins_of([float(i) ** 9 for i in range(100)], 0.1)) == dict.fromkeys(range(10), 10)


# ------------------------------------------------------------------------------------ the paper's splits


@pytest.mark.shared_data
def test_the_papers_halves_are_those_of_the_official_code(oracles: Path) -> None:
    """The recorded permutations, each cut after its validation rows, by the rule that cuts there."""
    recorded = json.loads((oracles / "tasks" / "task_format.json").read_text())["split_indices_first40"]
    for case in recorded:
        order, cut = permutation(case["n"], case["seed"]), case["validation_size"]
        assert order[:cut][:40] == case["validation"]
        assert order[cut:][:40] == case["test_or_train"]
        if case["seed"] != 42:
            continue
        rule, rest = ("halve", "test") if cut == case["n"] // 2 else ("thousand", "train")
        assert paper_rows("validation", rule, case["n"])[:40] == case["validation"]
        assert paper_rows(rest, rule, case["n"])[:40] == case["test_or_train"]


@pytest.mark.parametrize(("rule", "rest"), [("halve", "test"), ("thousand", "train")])
def test_the_papers_parts_of_one_file_are_complete_and_disjoint(rule: str, rest: str) -> None:
    for num_rows in (2, 57, 1500):
        held, others = paper_rows("validation", rule, num_rows), paper_rows(rest, rule, num_rows)
        assert sorted(held + others) == list(range(num_rows))
        assert len(held) == (num_rows // 2 if rule == "halve" else min(1000, num_rows))


def test_the_papers_files_and_its_subsample() -> None:
    assert [paper_file(split, "halve") for split in ("train", "validation", "test")] == [
        "train",
        "validation",
        "validation",
    ]
    assert [paper_file(split, "thousand") for split in ("train", "validation", "test")] == [
        "train",
        "train",
        "validation",
    ]
    assert paper_rows("train", "halve", 5) == [0, 1, 2, 3, 4]
    assert paper_rows("train", "halve", 10, 3) == permutation(10)[:3] == [2, 6, 1]
    assert paper_rows("train", "thousand", 1500, 4) == permutation(1500)[1000:1004]
    assert rule_for(9_999) == "halve"
    assert rule_for(10_000) == "thousand"
