"""A drawn validation split, and the paper's own."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.rows.split import draw_validation, paper_file, paper_rows, permutation, rule_for


@given(
    strata=st.lists(st.integers(0, 5), min_size=2, max_size=200),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 9),
    num_texts=st.integers(2, 200),
)
def test_a_split_is_complete_disjoint_and_leaves_every_label_in_train(
    strata: list[int], fraction: float, seed: int, num_texts: int
) -> None:
    texts = [f"text {i % num_texts}" for i in range(len(strata))]
    kept, held = draw_validation(texts, strata, fraction=fraction, seed=seed)
    assert sorted(kept + held) == list(range(len(strata)))
    assert not {texts[i] for i in kept} & {texts[i] for i in held}
    first_of_text = {text: strata[texts.index(text)] for text in texts}
    assert {first_of_text[texts[i]] for i in kept} == set(first_of_text.values())


def test_shares_follow_the_labels() -> None:
    strata = [0] * 100 + [1] * 50 + [2] * 10
    kept, held = draw_validation(range(160), strata, fraction=0.1, seed=3)
    assert Counter(strata[i] for i in held) == {0: 10, 1: 5, 2: 1}
    assert len(kept) == 144


def test_the_seed_decides() -> None:
    draws = {tuple(draw_validation(range(50), [0] * 50, fraction=0.2, seed=seed)[1]) for seed in (0, 0, 1)}
    assert len(draws) == 2


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


@pytest.mark.parametrize(
    ("sizes", "fraction", "held_out"),
    [
        ([14, 16], 0.1, {0: 1, 1: 2}),  # the largest remainder gets the row that is left
        ([16, 14], 0.1, {0: 2, 1: 1}),
        ([15, 15], 0.1, {0: 2, 1: 1}),  # equal ones: the first
        ([25, 15], 0.1, {0: 3, 1: 1}),  # equal remainders: the larger label
        ([15, 25], 0.1, {0: 1, 1: 3}),
        ([1, 1, 2], 0.5, {2: 1}),  # never the last of a label
        ([3], 0.01, {0: 1}),  # but one at least
        ([10, 1], 0.9, {0: 9}),
    ],
)
def test_shares_by_hand(sizes: list[int], fraction: float, held_out: dict[int, int]) -> None:
    strata = [label for label, size in enumerate(sizes) for _ in range(size)]
    kept, held = draw_validation(range(len(strata)), strata, fraction=fraction, seed=0)
    assert Counter(strata[row] for row in held) == held_out
    assert kept == sorted(kept)
    assert held == sorted(held)


def test_a_drawn_row_may_be_any_of_its_label() -> None:
    drawn = {tuple(draw_validation(range(6), [0] * 6, fraction=0.2, seed=seed)[1]) for seed in range(60)}
    assert drawn == {(row,) for row in range(6)}
