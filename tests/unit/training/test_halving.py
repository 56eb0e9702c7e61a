"""Successive halving as arithmetic: a made-up clock, made-up arms, and what must hold whatever they do."""

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from training.lab.halving import SHARES, Bench, halve, ranked, smallest_of_best, survivors

MARGIN = 0.05
"""Scores so near to each other are no difference."""


@dataclass(frozen=True)
class Found:
    """A trial of a made-up arm."""

    score: float
    seconds: float
    work: float
    failed: bool = False

    @property
    def rank(self) -> tuple[float, float] | None:
        return None if self.failed else (self.score, 0.0)


def worse(one: Found, other: Found) -> bool:
    return other.score < one.score - MARGIN


@dataclass
class World:
    """Arms by number: how good each is, how many seconds its full length takes, which fail."""

    scores: list[float]
    lengths: list[float]
    failing: frozenset[int]
    budget: float
    spent: float = 0.0
    measured: list[tuple[int, float]] = field(default_factory=list)

    def measure(self, arm: int, share: float) -> Found:
        self.measured.append((arm, share))
        failed = arm in self.failing
        seconds = 0.0 if failed else self.lengths[arm] * share
        self.spent += seconds
        return Found(self.scores[arm], seconds, share, failed)

    def bench(self, after: float = 0.0, must: float = 0.0) -> Bench[int, Found]:
        pace = max(self.lengths, default=1.0)
        return Bench(
            self.measure,
            lambda _, share: share,
            lambda: self.budget - self.spent,
            worse,
            pace,
            0.0,
            after,
            must,
        )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    scores = draw(st.lists(st.floats(0, 1), min_size=1, max_size=30))
    longest = draw(st.floats(0.1, 100))
    lengths = [longest * draw(st.floats(0.5, 1)) for _ in scores]
    failing = draw(st.frozensets(st.integers(0, len(scores) - 1), max_size=3))
    return World(scores, lengths, failing, longest * draw(st.floats(0, 60)))


@given(worlds(), st.floats(0, 3), st.floats(0, 1))
def test_the_time_is_kept_with_what_must_follow(world: World, after: float, part: float) -> None:
    found = halve(range(len(world.scores)), world.bench(after, after * part))
    reserve = max((world.lengths[arm] * after * part for arm in found.tried[1.0]), default=0.0)
    assert world.spent + reserve <= world.budget * (1 + 1e-9)


@given(worlds(), st.floats(0, 3))
def test_one_arm_comes_to_its_end_wherever_there_is_time_for_one(world: World, after: float) -> None:
    """Whatever else would follow, and however few trials there is time for before."""
    found = halve(range(len(world.scores)), world.bench(after))
    if not world.failing and world.budget >= max(world.lengths) * (1 + 1e-9):
        assert found.tried[1.0]


@given(worlds())
def test_the_best_of_a_round_always_goes_on_and_nothing_is_tried_twice(world: World) -> None:
    found = halve(range(len(world.scores)), world.bench())
    assert len(set(world.measured)) == len(world.measured)
    tried = [found.tried[share] for share in SHARES if found.tried[share]]
    for one, other in pairwise(tried):
        assert set(other) <= set(one)
        assert ranked(one)[0] in other
    assert found.num_untried == len(world.scores) - len({arm for arm, _ in world.measured})


@given(worlds())
def test_with_time_enough_the_best_arm_that_works_wins(world: World) -> None:
    """Whatever its luck in a round: here a trial shows what an arm is worth."""
    world.budget = 1000 * sum(world.lengths)
    found = halve(range(len(world.scores)), world.bench())
    works = [arm for arm in range(len(world.scores)) if arm not in world.failing]
    assert found.num_untried == 0
    if works:
        assert world.scores[ranked(found.tried[1.0])[0]] == max(world.scores[arm] for arm in works)


@given(st.dictionaries(st.integers(0, 50), st.floats(0, 1), min_size=1), st.integers(1, 10))
def test_survivors_are_the_best_and_none_is_worse_for_certain(scores: dict[int, float], most: int) -> None:
    found = {arm: Found(score, 1.0, 1.0) for arm, score in scores.items()}
    kept = survivors(found, worse, most)
    best = max(scores.values())
    assert scores[kept[0]] == best
    assert len(kept) <= most
    assert all(scores[arm] >= best - MARGIN for arm in kept)
    left_out = [arm for arm in scores if arm not in kept and scores[arm] >= best - MARGIN]
    assert len(kept) == most or not left_out
    assert all(scores[arm] <= scores[kept[-1]] for arm in left_out)


def test_a_third_goes_on_and_few_come_to_the_end() -> None:
    world = World([arm / 1000 for arm in range(9)], [1.0] * 9, frozenset(), budget=100.0)
    found = halve(range(9), world.bench())
    assert {share: len(tried) for share, tried in found.tried.items()} == {1 / 9: 9, 1 / 3: 3, 1.0: 1}
    assert ranked(found.tried[1.0]) == [8]


def test_an_arm_that_is_worse_for_certain_does_not_go_on() -> None:
    world = World([0.9, 0.1, 0.2, 0.88, 0.3, 0.1], [1.0] * 6, frozenset(), budget=100.0)
    assert set(halve(range(6), world.bench()).tried[1 / 3]) == {0, 3}
    world = World([0.9, 0.1, 0.2, 0.8, 0.3, 0.1], [1.0] * 6, frozenset(), budget=100.0)
    assert set(halve(range(6), world.bench()).tried[1 / 3]) == {0}


def test_without_time_for_a_full_length_nothing_is_begun() -> None:
    world = World([0.5] * 4, [10.0] * 4, frozenset(), budget=9.9)
    found = halve(range(4), world.bench())
    assert (world.measured, found.num_untried) == ([], 4)
    world = World([0.5] * 4, [10.0] * 4, frozenset(), budget=10.5)  # no time for anything shorter before it
    assert halve(range(4), world.bench()).tried == {1 / 9: {}, 1 / 3: {}, 1.0: {0: Found(0.5, 10.0, 1.0)}}
    assert world.measured == [(0, 1.0)]


def test_of_equals_the_smallest_file_wins_and_of_those_the_best() -> None:
    found = {arm: Found(score, 1.0, 1.0) for arm, score in {"a": 0.9, "b": 0.88, "c": 0.87, "d": 0.2}.items()}
    sizes = {0.9: 30, 0.88: 10, 0.87: 10, 0.2: 1}
    assert smallest_of_best(found, worse, lambda one: sizes[one.score]) == "b"
    assert smallest_of_best({"x": Found(0.0, 1.0, 1.0, failed=True)}, worse, lambda one: 1) is None
