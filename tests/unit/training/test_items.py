"""Rows as items: texts, pairs, choices, sources; and rows that cannot be read."""

from typing import Any

import pytest

from training.formats import Formatter
from training.metrics.scores import Metric
from training.rows.canonical import TargetError
from training.rows.items import (
    BadFieldError,
    ChoiceItem,
    Item,
    ReadItem,
    check_characters,
    formatted,
    joined_words,
    parts_of,
    plain_texts,
    texts_of,
    with_choices,
)
from training.rows.labels import Labels
from training.tasks.free_text import FreeText

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


HALF = "cut \ud83d"


@pytest.mark.parametrize(
    ("read", "row"),
    [
        (plain_texts(("a",)), {"a": HALF}),
        (plain_texts(("a", "b")), {"a": "x", "b": HALF}),
        (joined_words(("words",)), {"words": ["x", HALF]}),
        (with_choices(("a",), ("b", "c")), {"a": "x", "b": "y", "c": HALF}),
        (with_choices(("a",), ("b",)), {"a": "x", "b": ["y", HALF]}),
        (formatted(Formatter("fields", ("a",))), {"a": HALF}),
    ],
)
def test_half_of_an_emoji_is_refused_wherever_a_tokenizer_would_read_it(
    read: ReadItem, row: dict[str, Any]
) -> None:
    with pytest.raises(BadFieldError) as caught:
        check_characters(read(row | {"elsewhere": HALF}), list(row))
    assert "\\ud83d at character" in caught.value.found
    whole = {name: _whole(value) for name, value in row.items()}
    check_characters(read(whole | {"elsewhere": HALF}), list(row))  # what nobody reads may hold anything


def _whole(value: Any) -> Any:
    return (
        [_whole(one) for one in value] if isinstance(value, list) else value.replace("\ud83d", "\U0001f600")
    )


def test_half_of_an_emoji_is_no_answer() -> None:
    with pytest.raises(TargetError) as caught:
        FreeText((), Metric("f1")).parse(["whole", HALF], Labels((), {}))
    assert "\\ud83d at character 4" in caught.value.found
