"""What may be given as inputs, and what becomes of it on the wire."""

from __future__ import annotations

import json
from collections import UserDict
from typing import Any

import pytest

from trunkline.inputs import is_single, to_body, to_list


@pytest.mark.parametrize("inputs", ["", "a", ("a", "b"), {"text": "a"}, UserDict(text="a")])
def test_single(inputs: Any) -> None:
    assert is_single(inputs)


@pytest.mark.parametrize("inputs", [[], ["a"], ["a", "b"], (), (("a", "b"),), [("a", "b")], iter("ab"), 3])
def test_not_single(inputs: Any) -> None:
    assert not is_single(inputs)


@pytest.mark.parametrize("inputs", [("a",), ("a", "b", "c")])
def test_a_tuple_of_strings_that_is_no_pair_is_refused(inputs: Any) -> None:
    with pytest.raises(TypeError, match="use a list"):
        is_single(inputs)


def test_items_keep_their_order_and_form() -> None:
    given: list[Any] = [
        "a",
        ("b", "c"),
        ["d", "e"],
        {"text": "f", "text_pair": "g"},
        UserDict(text="h"),
        7,
        None,
    ]
    assert to_list(given) == [
        "a",
        {"text": "b", "text_pair": "c"},
        {"text": "d", "text_pair": "e"},
        {"text": "f", "text_pair": "g"},
        {"text": "h"},
        7,
        None,
    ]


def test_single_items_become_lists_of_one() -> None:
    assert to_list("a") == ["a"]
    assert to_list(("a", "b")) == [{"text": "a", "text_pair": "b"}]


def test_a_generator_is_read_once() -> None:
    assert to_list(text for text in ("a", "b")) == ["a", "b"]


def test_a_missing_text_of_a_table_is_sent_as_null_so_that_it_fails_alone() -> None:
    assert to_list(["a", float("nan")]) == ["a", None]  # type: ignore[list-item]


@pytest.mark.parametrize("bad", [b"bytes", object(), {"text": float("inf")}, {1, 2}])
def test_what_json_cannot_carry_is_named_with_its_place(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"inputs\[1\] is "):
        to_list(["a", bad])


@pytest.mark.parametrize("bad", [b"bytes", 3, None])
def test_inputs_must_be_texts(bad: Any) -> None:
    with pytest.raises(TypeError, match="a text, a pair or a list"):
        to_list(bad)


def test_body_is_compact_utf8_and_survives_lone_surrogates() -> None:
    assert "é".encode() in to_body({"text": "é"})
    assert json.loads(to_body({"text": "\ud800"})) == {"text": "\ud800"}
