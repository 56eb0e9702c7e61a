"""Columns as answers: each row as if alone, for every kind; non-finite rows withheld."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modeling import KINDS, Abstention, HeadSpec
from service.api import answers
from service.api.answers import count_outcome, predictions_of
from service.engine.request import Column, ItemError, Marked
from service.metrics import Metrics
from tests.tiny import answer
from tests.unit.service.fakes import CHOICE, STRINGS, card, value_of

SPECS = [
    HeadSpec("single_label", ("a", "b")),
    HeadSpec("single_label", tuple(f"l{i}" for i in range(9))),
    HeadSpec("multi_label", ("a", "b", "c", "d")),
    HeadSpec("multi_label", ("a", "b", "c"), threshold=0.3),
    HeadSpec("regression", ("value",)),
    HeadSpec("regression", ("value",), low=-1.5, high=2.0),
    HeadSpec("regression", ("value",), low=0.0),
    HeadSpec("text_to_text", ("false", "true", "maybe"), pooling="none"),
    HeadSpec("text_to_text", ("only",), pooling="none"),
    HeadSpec("similarity", ()),
    HeadSpec("similarity", (), low=1.0, high=5.0),
]

MARKS = HeadSpec("token_labels", ("O", "B-x", "I-x"), "first")


def _column(spec: HeadSpec, logits: Any) -> Column:
    column = Column.empty(1, card(spec=spec), len(logits), (len(spec.labels) or 1))
    column.logits[:] = logits
    column.num_tokens[:] = range(3, 3 + len(logits))
    return column


@settings(max_examples=150, deadline=None)
@given(
    spec=st.sampled_from(SPECS),
    num_items=st.integers(1, 6),
    top_k=st.none() | st.integers(1, 12),
    raw=st.booleans(),
    data=st.data(),
)
def test_a_column_is_answered_as_its_rows_would_be(
    spec: HeadSpec, num_items: int, top_k: int | None, raw: bool, data: st.DataObject
) -> None:
    values = st.floats(-200, 200, width=32) | st.sampled_from([0.0, 1.0, -1.0, 3e38, -3e38])
    shape = (num_items, (len(spec.labels) or 1))
    logits = data.draw(hnp.arrays(np.float32, shape, elements=values))
    got = predictions_of(_column(spec, logits), top_k=top_k, raw=raw)
    for index, (row, prediction) in enumerate(zip(logits, got, strict=True)):
        wanted = answer(spec, row, top_k=top_k)
        assert prediction["label"] == wanted.label
        assert prediction["score"] == pytest.approx(wanted.score, rel=1e-12, abs=1e-300)
        assert list(prediction["scores"]) == list(wanted.scores)
        assert list(prediction["scores"].values()) == pytest.approx(list(wanted.scores.values()), rel=1e-12)
        assert prediction["tokens"] == 3 + index
        assert prediction["truncated"] is False
        assert prediction.get("logits") == (row.tolist() if raw else None)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_logits_are_withheld_and_counted(spec: HeadSpec, bad: float) -> None:
    logits = np.ones((4, (len(spec.labels) or 1)), dtype=np.float32)
    logits[2, -1] = bad
    column = _column(spec, logits)
    column.errors[0] = ItemError("too_long", "inputs[0] …", 0)
    got = predictions_of(column, top_k=None, raw=True)
    assert [p["error"]["code"] if "error" in p else None for p in got] == [
        "too_long",
        None,
        "non_finite",
        None,
    ]
    assert set(got[2]) == {"error"}
    metrics = Metrics()
    count_outcome(metrics, "mood", column)
    assert value_of(metrics, "trunkline_non_finite_total") == 1
    assert value_of(metrics, 'trunkline_predictions_total{task="mood"}') == 2
    assert value_of(metrics, 'trunkline_item_errors_total{code="too_long"}') == 1


def _choice_column(logits: list[list[float]]) -> Column:
    """One item for each row, with as many choices as it has logits."""
    width = max(map(len, logits))
    column = Column.empty(1, card(spec=CHOICE), len(logits), width)
    for index, row in enumerate(logits):
        column.logits[index, : len(row)] = row
        column.choices[index] = tuple(f"choice {k}" for k in range(len(row)))
    return column


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.lists(st.floats(-200, 200, width=32), min_size=2, max_size=5), min_size=1, max_size=4),
    top_k=st.none() | st.integers(1, 6),
)
def test_choices_are_answered_as_modeling_does(logits: list[list[float]], top_k: int | None) -> None:
    column = _choice_column(logits)
    for index, prediction in enumerate(predictions_of(column, top_k=top_k, raw=True)):
        row = np.array(logits[index], np.float32)
        wanted = answer(CHOICE, row, top_k=top_k)
        assert str(prediction["index"]) == wanted.label
        assert prediction["label"] == f"choice {wanted.label}"
        assert prediction["score"] == pytest.approx(wanted.score, rel=1e-12)
        assert list(prediction["scores"]) == [f"choice {place}" for place in wanted.scores]
        assert list(prediction["scores"].values()) == pytest.approx(list(wanted.scores.values()), rel=1e-12)
        assert prediction["logits"] == row.tolist()


def test_a_bad_choice_withholds_its_item_alone() -> None:
    column = _choice_column([[1.0, 2.0], [3.0, np.nan, 1.0], [0.0, 0.0, 9.0]])
    column.errors[0] = ItemError("too_long", "inputs[0] …", 0)
    got = predictions_of(column, top_k=1, raw=False)
    assert [p["error"]["code"] if "error" in p else p["index"] for p in got] == ["too_long", "non_finite", 2]
    assert got[2]["scores"] == {"choice 2": pytest.approx(got[2]["score"])}


def test_a_generated_text_is_a_label_or_not_and_has_no_score() -> None:
    column = Column.empty(1, card(spec=STRINGS), 3, 0)
    column.texts |= {0: "true", 1: "truely"}
    column.errors[2] = ItemError("too_long", "inputs[2] …", 2)
    got = predictions_of(column, top_k=None, raw=False)
    common: dict[str, Any] = {"score": None, "scores": {}, "tokens": 0, "truncated": False}
    assert got[:2] == [{"label": "true", "text": "true"} | common, {"label": None, "text": "truely"} | common]
    assert got[2]["error"]["code"] == "too_long"


def test_an_embedding_that_is_not_finite_is_withheld() -> None:
    """Beside one that is, and a pair."""
    column = _column(HeadSpec("similarity", ()), np.full((3, 1), 0.5))
    column.embeddings = {0: np.array([1, np.nan], np.float32), 1: np.array([0, 1], np.float32)}
    got = predictions_of(column, top_k=None, raw=True)
    assert got[0]["error"]["code"] == "non_finite"
    assert (got[1]["embedding"], got[1]["score"], got[1]["logits"]) == ([0.0, 1.0], None, [])
    assert (got[2]["score"], got[2]["scores"], got[2]["logits"]) == (0.5, {"cosine": 0.5}, [0.5])
    assert column.num_logits == 7


def test_when_every_item_failed_nothing_was_generated() -> None:
    column = Column.empty(1, card(spec=STRINGS), 1, 0)
    column.errors[0] = ItemError("too_long", "inputs[0] …", 0)
    assert [set(one) for one in predictions_of(column, top_k=None, raw=False)] == [{"error"}]


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    column = _column(HeadSpec("single_label", ("z", "a", "m")), np.zeros((1, 3)))
    assert list(predictions_of(column, top_k=2, raw=False)[0]["scores"]) == ["z", "a"]


def test_every_kind_that_is_chosen_is_among_the_specs() -> None:
    specs = [*SPECS, CHOICE, MARKS]
    assert {spec.kind for spec in specs} >= {name for name in KINDS if name != "text"}


def _marked_column(rows: list[list[float]], texts: list[str]) -> Column:
    """One word of one character each, with a space behind."""
    column = Column.empty(1, card(spec=MARKS), len(texts), len(MARKS.labels))
    for index, (row, text) in enumerate(zip(rows, texts, strict=True)):
        column.marked[index] = Marked(text, [(place, place + 1) for place in range(0, len(text), 2)])
        column.of_words[index] = np.array(row, np.float32)
        column.num_tokens[index] = 9
    return column


def test_entities_stand_in_the_text_that_was_sent() -> None:
    rows: list[list[float]] = [[0, 9, 0, 0, 0, 9, 9, 0, 0], [9, 0, 0], []]
    got = predictions_of(_marked_column(rows, ["a b c", "d", ""]), top_k=None, raw=False)
    (entity,) = got[0]["entities"]
    assert {**entity, "score": 0} == {"start": 0, "end": 3, "label": "x", "text": "a b", "score": 0}
    assert 0.9 < got[0]["score"] < entity["score"] < 1
    assert [(one["label"], one["scores"], one["tokens"]) for one in got] == [
        (["x"], {}, 9),
        ([], {}, 9),
        ([], {}, 9),
    ]
    assert got[1]["entities"] == got[2]["entities"] == []
    assert not any("words" in one or "logits" in one for one in got)


def test_raw_gives_the_logits_of_each_word() -> None:
    got = predictions_of(_marked_column([[1, 2, 3, 4, 5, 6], []], ["a b", ""]), top_k=None, raw=True)
    assert (got[0]["logits"], got[0]["words"]) == ([[1, 2, 3], [4, 5, 6]], [(0, 1), (2, 3)])
    assert (got[1]["logits"], got[1]["words"]) == ([], [])


def test_words_that_are_not_finite_withhold_their_text_alone() -> None:
    column = _marked_column([[0, 9, 0], [np.nan, 0, 0], [0, np.inf, 0], [9, 0, 0]], list("abcd"))
    column.errors[3] = ItemError("too_long", "inputs[3] …", 3)
    got = predictions_of(column, top_k=None, raw=True)
    assert [one["error"]["code"] if "error" in one else one["label"] for one in got] == [
        ["x"],
        "non_finite",
        "non_finite",
        "too_long",
    ]


def test_a_text_that_failed_has_no_words() -> None:
    column = Column.empty(1, card(spec=MARKS), 1, 3)
    column.errors[0] = ItemError("too_long", "inputs[0] …", 0)
    assert [set(one) for one in predictions_of(column, top_k=None, raw=True)] == [{"error"}]


def test_a_withheld_label_is_null_with_its_scores_and_says_unknown() -> None:
    spec = HeadSpec("single_label", ("a", "b"), abstain=Abstention(0.9, 0.05, 0.5, 0.0, 0.05, 100))
    sure, unsure = predictions_of(_column(spec, [[5.0, 0.0], [1.0, 0.0]]), top_k=None, raw=False)
    assert sure["label"] == "a"
    assert "unknown" not in sure
    assert (unsure["label"], unsure["unknown"]) == (None, True)
    assert list(unsure["scores"]) == ["a", "b"]
    assert unsure["score"] == unsure["scores"]["a"]


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(0, 5)),
        elements=st.sampled_from([0.0, 3e38, np.nan, np.inf, -np.inf]),
    )
)
def test_few_rows_are_found_not_finite_as_many_are(logits: Any) -> None:
    found = answers._non_finite_rows(logits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "FEW_SCORES", -1)
        assert answers._non_finite_rows(logits) == found
