"""A drawn validation split."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from training.split import draw_validation


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
