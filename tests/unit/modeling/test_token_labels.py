"""Entities out of logits: against all possible sequences of tags, written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modeling import KINDS, HeadSpec
from modeling.kinds.base import Floats, by_row
from modeling.kinds.token_labels import tags_of

KIND = KINDS["token_labels"]
SPEC = HeadSpec("token_labels", tags_of(["x", "y"]), "first")
Found = list[tuple[int, int, int]]


def is_possible(tags: tuple[int, ...]) -> bool:
    """No I- behind anything but B- or I- of its label."""
    return all(
        tag == 0 or tag % 2 or before in (tag, tag - 1) for before, tag in zip((0, *tags), tags, strict=False)
    )


def entities(tags: tuple[int, ...]) -> Found:
    """First word, last word, label."""
    found: Found = []
    for place, tag in enumerate(tags):
        if tag % 2:
            found.append((place, place, tag // 2))
        elif tag:
            found[-1] = (found[-1][0], place, found[-1][2])
    return found


def by_hand(logits: Floats) -> tuple[float, Found, list[float]]:
    """Of words [W, 5]: the probability of the best possible sequence, its entities, and that of each."""
    words = np.exp(logits - logits.max(axis=1, keepdims=True))
    words /= words.sum(axis=1, keepdims=True)
    possible = [tags for tags in itertools.product(range(5), repeat=len(logits)) if is_possible(tags)]
    weights = np.array([np.prod([words[i, tag] for i, tag in enumerate(tags)]) for tags in possible])
    found = [entities(tags) for tags in possible]
    best = int(weights.argmax())
    total = weights.sum()
    marginals = [
        sum(weight for weight, own in zip(weights, found, strict=True) if entity in own) / total
        for entity in found[best]
    ]
    return weights[best] / total, found[best], marginals


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        hnp.arrays(np.float64, st.tuples(st.integers(0, 4), st.just(5)), elements=st.floats(-6, 6)),
        min_size=1,
        max_size=4,
    )
)
def test_answers_are_those_of_all_possible_sequences(rows: list[Floats]) -> None:
    """Rows of different lengths at once; words are three characters, with one between."""
    words = [[(4 * place, 4 * place + 3) for place in range(len(row))] for row in rows]
    answers = KIND.decide(SPEC, by_row([row.reshape(-1) for row in rows]), None, words)
    for row, answer in zip(rows, answers, strict=True):
        score, found, marginals = by_hand(row)
        assert answer.score == pytest.approx(score)
        assert answer.entities is not None
        scores = [entity.score for entity in answer.entities]
        if [one[:3] for one in answer.entities] != [
            (4 * first, 4 * last + 3, "xy"[label]) for first, last, label in found
        ]:  # two sequences are equally probable
            continue
        assert scores == pytest.approx(marginals)
        assert answer.label == list(dict.fromkeys(entity.label for entity in answer.entities))


def test_a_tag_that_cannot_stand_there_is_not_answered() -> None:
    """I-x alone is by far the best of each word; the answer is the best of what is possible."""
    logits = np.zeros((1, 10))
    logits[0, [2, 7]] = 9.0
    (answer,) = KIND.decide(SPEC, logits, None, [[(0, 1), (2, 3)]])
    assert [tuple(one[:3]) for one in answer.entities or ()] == [(0, 3, "x")]


def test_certain_logits_do_not_overflow() -> None:
    logits = np.zeros((1, 15))
    logits[0, [2, 7, 10]] = 3e4
    (answer,) = KIND.decide(SPEC, logits, None, [[(0, 1), (2, 3), (4, 5)]])
    assert answer.entities is not None
    assert [(one.start, one.end, one.label) for one in answer.entities] == [(0, 3, "x")]
    assert np.isfinite([answer.score, answer.entities[0].score]).all()


def test_words_behind_all_logits_have_no_answer() -> None:
    """Where every text was cut, the logits are narrower than the words."""
    logits = np.array([[0.0, 9, 0, 0, 0]])
    (cut,) = KIND.decide(SPEC, logits, None, [[(0, 1), (2, 3), (4, 5)]])
    assert [tuple(one[:3]) for one in cut.entities or ()] == [(0, 1, "x")]


def test_words_that_were_cut_have_no_answer() -> None:
    logits = np.full((2, 15), np.nan)
    logits[0, :5] = [0, 9, 0, 0, 0]
    places = [[(0, 1), (2, 3), (4, 5)], []]
    cut, nothing = KIND.decide(SPEC, logits, None, places)
    assert [tuple(one[:3]) for one in cut.entities or ()] == [(0, 1, "x")]
    assert nothing == ([], 1.0, {}, None, [])


@pytest.mark.parametrize(
    "labels",
    [
        ("O",),
        ("O", "B-x"),
        ("B-x", "I-x", "O"),
        ("O", "I-x", "B-x"),
        ("O", "B-x", "I-y"),
        ("O", *["B-x", "I-x"] * 2),
    ],
)
def test_the_law_of_tags_is_closed(labels: tuple[str, ...]) -> None:
    (failure,) = KIND.check(HeadSpec("token_labels", labels, "first"))
    assert failure.field == "head.labels"
    assert not KIND.check(SPEC)
