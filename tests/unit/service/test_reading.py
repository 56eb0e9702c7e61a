"""JSON bodies: half a character fails the item that holds it alone; no JSON is told for what it is."""

from __future__ import annotations

import codecs
import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from service.api import schemas
from service.api.predict import parse
from service.api.reading import check_utf8, read_json
from service.engine.items import parse_item
from service.engine.request import ItemError
from service.errors import InvalidInput, MalformedRequest

HIGH, LOW = "\ud83d", "\ude00"
LETTERS = st.text(st.sampled_from(["a", "é", "\U0001f600", "\x00", "\\", '"', HIGH, LOW]), max_size=6)
ITEMS = st.one_of(
    LETTERS,
    st.fixed_dictionaries({"text": LETTERS}, optional={"text_pair": LETTERS}),
    st.fixed_dictionaries(
        {"text": LETTERS, "choices": st.lists(LETTERS, min_size=2, max_size=3, unique=True)}
    ),
    st.sampled_from([None, 3, 1.5, True, [HIGH], {HIGH: "a"}, {"text": [HIGH]}]),
)


def _sound(item: Any) -> bool:
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(st.lists(ITEMS, min_size=1, max_size=5), st.sampled_from(["escapes", "three bytes", "mark"]))
def test_a_half_fails_its_own_item_and_no_other(items: list[Any], written: str) -> None:
    """However it is written; two escaped halves that belong together are a character, as JSON says."""
    payload = {"task": "a", "inputs": items}
    body = json.dumps(payload).encode()
    if written == "three bytes":
        body = json.dumps(payload, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if written == "mark":
        body = codecs.BOM_UTF8 + body
    sent = json.loads(body.decode("utf-8-sig", "surrogatepass"))["inputs"]
    assert parse(body).inputs == sent
    for index, item in enumerate(sent):
        found = parse_item(item, index, 1000)
        if not _sound(item):
            assert isinstance(found, ItemError)
            assert found.code == "invalid_item" or item.get("choices")
            found.message.encode()  # and what is said of it can be sent
        elif isinstance(item, str):
            assert not isinstance(found, ItemError)


@pytest.mark.parametrize(
    ("item", "where"),
    [
        (f"ab{HIGH}c", r"(\ud83d) in text, at character 2"),
        ({"text": "a", "text_pair": LOW}, r"(\ude00) in text_pair, at character 0"),
        ({"text": "a", "choices": ["b", f"é{LOW}{HIGH}"]}, r"(\ude00) in choices[1], at character 1"),
    ],
)
def test_the_place_of_a_half_is_named(item: object, where: str) -> None:
    error = parse_item(item, 7, 100)
    assert isinstance(error, ItemError)
    assert error.code == "invalid_item"
    assert error.message.startswith(f"inputs[7] has a lone surrogate {where}")
    assert "U+FFFD" in error.message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"task": HIGH, "inputs": ["a"]}, "task"),
        ({"tasks": ["a", f"b{LOW}"], "inputs": ["a"]}, "tasks"),
        ({"task": "a", "inputs": ["a"], "top_k": HIGH}, "top_k"),
        ({"task": "a", "inputs": ["a"], "top_k": [{"x": LOW}]}, "top_k"),
        ({"task": "a", "inputs": ["a"], HIGH: 1}, r"\ud83d"),
        ({"task": "a", "inputs": [HIGH], "unknown": 1}, "unknown"),
        ({"task": 5, "inputs": [HIGH]}, "task"),
    ],
)
def test_a_half_elsewhere_refuses_the_request_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(json.dumps(fields).encode())
    assert [found.field for found in caught.value.failures] == [named]
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"task": "a", "inputs": "b"}'.encode("utf-16"), "UTF-16"),
        ('{"task": "a", "inputs": "b"}'.encode("utf-16-le"), "UTF-16"),
        ('{"task": "a", "inputs": "b"}'.encode("utf-32"), "UTF-32"),
        (gzip.compress(b"{}", mtime=0), "Content-Encoding: gzip"),
        (b'{"task": "a", "inputs": "\xe9"}', "byte 0xe9 at offset 25"),
        (b'{"task": "a", "inputs": "\\ud83d\xe9"}', "byte 0xe9 at offset 31"),
        (b'{"task": "a", "inputs": "\\ud83d"', "not valid JSON"),
        (b'{"task": "a", "inputs": "\\ud83d", "top_k": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"task": "a", "inputs": "\\ud83d", "raw": ' + b"[" * 100_000, "nested too deeply"),
        (b'["\\ud83d"]', "not valid JSON"),
        (b'{"task": "a", "inputs": "a\x00b"}', "control character"),
        (b"", "not valid JSON"),
    ],
)
def test_what_is_not_json_in_utf8_is_told_for_what_it_is(body: bytes, says: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse(body)
    assert says in str(caught.value)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_order_mark_is_no_part_of_the_json(mark: bytes) -> None:
    body = '{"task": "a", "inputs": "b\\u0000é", "task": "c"}'.encode()
    ask = parse(mark + body)
    assert (ask.task, ask.inputs) == ("c", "b\x00é")  # of a key that is there twice the last counts
    assert check_utf8(mark + body) == body


class _Pair(BaseModel):
    one: str
    other: str


def test_only_the_fields_that_are_judged_later_may_hold_a_half() -> None:
    body = json.dumps({"one": HIGH, "other": "b"}).encode()
    assert read_json(body, _Pair, judged_later=("one",)).one == HIGH
    with pytest.raises(InvalidInput, match="one: got a lone surrogate"):
        read_json(body, _Pair, judged_later=("other",))
    assert "inputs" in schemas.PredictRequest.model_fields
