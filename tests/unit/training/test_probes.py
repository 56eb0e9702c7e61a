"""Which rows become probes."""

from collections import Counter

from training.file.probes import choose_probes


def test_labels_take_turns_and_lengths_vary() -> None:
    strata = ["a"] * 200 + ["b"] * 20 + ["c"] * 3
    lengths = [i % 50 + 3 for i in range(223)]
    rows = choose_probes(strata, lengths, [False] * 223, [100] * 223)
    assert len(rows) == 32
    assert Counter(strata[row] for row in rows)["c"] == 3
    assert Counter(strata[row] for row in rows)["b"] > 10
    assert {min(lengths), max(lengths)} <= {lengths[row] for row in rows}


def test_cut_and_huge_rows_only_fill_up() -> None:
    cut = [True] * 30 + [False] * 10
    rows = choose_probes(["a"] * 40, [9] * 40, cut, [100] * 40)
    assert rows == list(range(30, 40))
    rows = choose_probes(["a"] * 20, [9] * 20, [False] * 20, [5000 + i for i in range(14)] + [10] * 6)
    assert rows == [0, 1, *range(14, 20)]


def test_few_rows_repeat_up_to_eight() -> None:
    assert choose_probes(["a", "b", "a"], [3, 4, 5], [False] * 3, [9] * 3) == [0, 0, 0, 1, 1, 1, 2, 2]
