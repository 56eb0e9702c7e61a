"""Batches by tokens and rows: complete, within the budget, decided by seed and epoch."""

from hypothesis import given
from hypothesis import strategies as st

from training.loop.batches import evaluation_batches, training_batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=150)


@given(lengths=LENGTHS, tokens=st.integers(8, 200), size=st.integers(1, 20), seed=st.integers(0, 5))
def test_training_batches_hold_every_row_once_within_the_budget(
    lengths: list[int], tokens: int, size: int, seed: int
) -> None:
    batches = training_batches(lengths, batch_tokens=tokens, batch_size=size, seed=seed, epoch=1)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= size
        assert sum(lengths[row] for row in batch) <= tokens or len(batch) == 1


@given(lengths=LENGTHS, tokens=st.integers(8, 200))
def test_evaluation_batches_hold_every_row_once_shortest_first(lengths: list[int], tokens: int) -> None:
    batches = evaluation_batches(lengths, tokens)
    order = [row for batch in batches for row in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths)
    assert all(sum(lengths[row] for row in batch) <= tokens or len(batch) == 1 for batch in batches)


def test_seed_and_epoch_alone_decide_the_order() -> None:
    lengths = [5 + i % 17 for i in range(300)]

    def order(seed: int, epoch: int) -> list[list[int]]:
        return training_batches(lengths, batch_tokens=256, batch_size=16, seed=seed, epoch=epoch)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_rows_of_a_batch_are_about_equally_long() -> None:
    lengths = [1 + (i * 37) % 100 for i in range(800)]
    batches = training_batches(lengths, batch_tokens=10_000, batch_size=16, seed=0, epoch=1)
    spans = [max(lengths[r] for r in batch) - min(lengths[r] for r in batch) for batch in batches]
    assert sum(spans) / len(spans) < 25  # a random batch of 16 spans about 88


def test_batches_are_as_full_as_their_budgets_allow() -> None:
    by_tokens = training_batches([10] * 20, batch_tokens=45, batch_size=16, seed=0, epoch=1)
    assert [len(batch) for batch in by_tokens] == [4] * 5
    by_rows = training_batches([10] * 20, batch_tokens=1000, batch_size=5, seed=0, epoch=1)
    assert [len(batch) for batch in by_rows] == [5] * 4
    assert [len(batch) for batch in evaluation_batches([10] * 10, 40)] == [4, 4, 2]
    assert [len(batch) for batch in evaluation_batches([1] * 9, 8)] == [8, 1]
    assert evaluation_batches([50, 1, 50], 8) == [[1], [0], [2]]
    assert (
        evaluation_batches([], 8) == training_batches([], batch_tokens=8, batch_size=2, seed=0, epoch=1) == []
    )


def test_length_does_not_follow_the_schedule() -> None:
    batches = training_batches(list(range(1, 81)), batch_tokens=10_000, batch_size=10, seed=0, epoch=1)
    assert len(batches) == 8
    longest = [max(batch) for batch in batches]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))
    assert all(max(batch) - min(batch) == 9 for batch in batches), "of one pool, neighbours by length"


def test_rows_of_a_pool_come_from_the_whole_file() -> None:
    batches = training_batches([5] * 400, batch_tokens=10_000, batch_size=10, seed=0, epoch=1)
    assert all(max(batch) - min(batch) > 80 for batch in batches)
