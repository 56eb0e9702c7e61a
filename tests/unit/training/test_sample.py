"""Fewer train rows with the labels' shares."""

import random
from collections.abc import Sequence
from fractions import Fraction
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.test_split import (
    ONE_LABEL,
    SEVERAL,
    Row,
    distance,
    held_out,
    labels_of,
    many_labels,
    one_label_each,
    rows_of,
)
from training.rows.split import sample_rows


def sampled(rows: Sequence[Row], num_rows: int, seed: int = 0) -> list[Row]:
    return [rows[i] for i in sample_rows([t for t, _ in rows], [m for _, m in rows], num_rows, seed)]


@given(rows=rows_of(ONE_LABEL, 0) | rows_of(SEVERAL, 0), seed=st.integers(0, 9))
def test_samples_are_in_file_order_nested_and_have_every_label_as_soon_as_they_can(
    rows: list[Row], seed: int
) -> None:
    texts, labels = [text for text, _ in rows], [marks for _, marks in rows]
    smaller: set[int] = set()
    for num_rows in range(len(rows) + 3):
        sample = sample_rows(texts, labels, num_rows, seed)
        assert sample == sorted(set(sample))
        assert len(sample) == min(num_rows, len(rows))
        assert smaller <= set(sample)
        smaller = set(sample)
        if num_rows >= len(labels_of(rows)):
            assert labels_of([rows[i] for i in sample]).keys() == labels_of(rows).keys()


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=10), data=st.data())
def test_a_sample_with_one_label_a_row_follows_sainte_lague(sizes: list[int], data: st.DataObject) -> None:
    """Its mark: no row could go from one label to another and bring the shares closer; none is without."""
    num_rows = data.draw(st.integers(0, sum(sizes)))
    taken = labels_of(sampled(one_label_each(sizes), num_rows))
    if num_rows < len(sizes):
        assert sorted(sizes[label] for label in taken) == sorted(sizes)[len(sizes) - num_rows :]
        assert set(taken.values()) <= {1}
        return
    last = [Fraction(2 * taken[label] - 1, size) for label, size in enumerate(sizes) if taken[label] > 1]
    following = [Fraction(2 * taken[label] + 1, n) for label, n in enumerate(sizes) if taken[label] < n]
    assert max(last, default=Fraction(0)) <= min(following, default=Fraction(2))


def test_a_sample_of_a_sorted_file_has_all_its_classes() -> None:
    rows = one_label_each([150] * 100 + [60] * 50 + [3])
    taken = labels_of(sampled(rows, 1000))
    assert len(taken) == 151
    assert all(taken[label] == pytest.approx(150 / 18.003, abs=1) for label in range(100))
    assert all(taken[label] == pytest.approx(60 / 18.003, abs=1) for label in range(100, 150))


@given(rows=rows_of(ONE_LABEL) | rows_of(SEVERAL), chooser=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter_to_a_sample(rows: list[Row], chooser: random.Random) -> None:
    mixed = chooser.sample(rows, len(rows))
    for num_rows in (1, len(rows) // 3, len(rows) // 2):
        assert sorted(map(_plain, sampled(rows, num_rows))) == sorted(map(_plain, sampled(mixed, num_rows)))


def _plain(row: Row) -> Row:
    """A row with its labels as a set."""
    return row[0], tuple(sorted(set(row[1])))


def test_a_sample_of_several_labels_is_closer_than_one_by_chance() -> None:
    errors, by_chance = [], []
    for seed in range(10):
        rows = many_labels(1000, 28, 0, 4, 1.0, seed)
        errors.append(distance(sampled(rows, 100, seed), rows))
        by_chance.append(distance(random.Random(seed).sample(rows, 100), rows))
    assert mean(errors) < 0.8 * mean(by_chance)


def test_the_seed_decides_on_a_sample_and_a_repeated_text_does_not_come_in_one_lump() -> None:
    rows = [*one_label_each([100]), *[("again", (0,))] * 100]
    samples = [sampled(rows, 40, seed) for seed in range(20)]
    assert len(set(map(tuple, samples))) == 20
    assert all(8 <= sum(text == "again" for text, _ in sample) <= 32 for sample in samples)


def test_a_sample_has_nothing_to_do_with_what_is_held_out() -> None:
    rows = one_label_each([1000])
    assert len(set(held_out(rows, 0.2)) & set(sampled(rows, 200))) == pytest.approx(40, abs=20)


def test_every_machine_samples_the_same() -> None:
    assert sample_rows([f"row {i} \u00e9" for i in range(30)], [(0,)] * 30, 3, seed=7) == [9, 17, 28]
