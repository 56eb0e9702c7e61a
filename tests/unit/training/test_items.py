"""Rows as items: texts, pairs, choices, sources; and rows that cannot be read."""

from typing import Any

import pytest

from training.formats import Formatter
from training.rows.items import (
    BadFieldError,
    ChoiceItem,
    Item,
    formatted,
    parts_of,
    plain_texts,
    texts_of,
    with_choices,
)

COPA = {"premise": "He fell.", "choice1": "Ice.", "choice2": "Sun.", "question": "cause"}


def test_texts_and_pairs() -> None:
    assert plain_texts(("a",))({"a": "x"}) == "x"
    assert plain_texts(("a", "b"))({"a": "x", "b": "y"}) == ("x", "y")


@pytest.mark.parametrize(
    ("question", "sentence"), [("cause", "What was the cause?"), ("effect", "What happened as a result?")]
)
def test_copas_question_follows_the_premise(question: str, sentence: str) -> None:
    read = with_choices(("premise", "question"), ("choice1", "choice2"))
    item = read(COPA | {"question": question})
    assert item == ChoiceItem(f"He fell. {sentence}", ("Ice.", "Sun."))
    assert texts_of(item) == [(f"He fell. {sentence}", "Ice."), (f"He fell. {sentence}", "Sun.")]
    assert parts_of(item) == (f"He fell. {sentence}", "Ice.", "Sun.")


def test_any_other_question_stays_as_it_is() -> None:
    item = with_choices(("question",), ("options",))({"question": "Why?", "options": ["a", "b", "c"]})
    assert item == ChoiceItem("Why?", ("a", "b", "c"))


@pytest.mark.parametrize(("item", "pairs"), [("x", ["x"]), (("x", "y"), [("x", "y")])])
def test_an_item_without_choices_is_read_once(item: Item, pairs: list[Item]) -> None:
    assert texts_of(item) == pairs
    assert parts_of(item) == (("x",) if isinstance(item, str) else ("x", "y"))


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"premise": "x", "choice1": "a"}, "choice2"),
        ({"premise": 3, "choice1": "a", "choice2": "b"}, "premise"),
        ({"premise": "x", "choice1": "a", "choice2": None}, "choice2"),
        ({"premise": "x", "choice1": "a", "choice2": "a"}, "choice1, choice2"),
    ],
)
def test_a_bad_field_of_choices_is_named(row: dict[str, Any], field: str) -> None:
    with pytest.raises(BadFieldError) as caught:
        with_choices(("premise",), ("choice1", "choice2"))(row)
    assert caught.value.field == field


@pytest.mark.parametrize("listed", ["a b", ["only one"], None, ["a", 3]])
def test_a_list_of_choices_has_at_least_two_texts(listed: Any) -> None:
    with pytest.raises(BadFieldError) as caught:
        with_choices(("text",), ("choices",))({"text": "x", "choices": listed})
    assert caught.value.field == "choices"


def test_a_source_that_cannot_be_made_is_named() -> None:
    plain = formatted(Formatter("fields", ("a", "b")))
    assert plain({"a": "x", "b": 3}) == "a: x b: 3"
    with pytest.raises(BadFieldError, match="b"):
        plain({"a": "x"})
    with pytest.raises(BadFieldError, match="b"):
        plain({"a": "x", "b": None})
    wsc = ("text", "span1_text", "span1_index", "span2_text", "span2_index")
    row: dict[str, Any] = dict.fromkeys(wsc, "x")
    with pytest.raises(BadFieldError) as caught:
        formatted(Formatter("superglue-wsc.fixed", wsc))(row)
    assert "cannot read it" in caught.value.remedy
