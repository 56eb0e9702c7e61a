"""Items of every form: what becomes a row, and what becomes an error of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from service.engine.request import ItemError, Job, Row
from service.engine.tokenizer import CHUNK_CHARS, CHUNK_TEXTS, Tokenizer, chunk_end, num_chars_of, parse_item
from service.metrics import Metrics
from tests.unit.service.fakes import FakeText, Finished, card, job


class Collected:
    """A queue that keeps rows."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.chunks: list[int] = []
        self.done = Finished()

    def add(self, job: Job, rows: Sequence[Row], *, last: bool) -> None:
        self.rows += rows
        self.chunks.append(len(rows))
        if last:
            self.done(job)

    def cancel(self, job: Job, failure: BaseException | None = None) -> None:
        job.failure = failure
        self.done(job)


def _rows(one: Job, text: FakeText | None = None) -> Collected:
    queue = Collected()
    tokenizer = Tokenizer(text or FakeText(), queue, Metrics(), num_threads=2, max_text_chars=100)
    tokenizer.start(one)
    queue.done.wait()
    tokenizer.close()
    assert one.failure is None
    return queue


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("", ""),
        ("a text", "a text"),
        ({"text": "a"}, "a"),
        ({"text": "a", "text_pair": None}, "a"),
        ({"text": "a", "text_pair": ""}, ("a", "")),
        ({"text": "a", "text_pair": "b"}, ("a", "b")),
    ],
)
def test_valid_items(item: object, expected: object) -> None:
    assert parse_item(item, 0, 100) == expected


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (None, "is null"),
        (3, "is a number"),
        (True, "is a boolean"),
        (["a", "b"], "is a list"),
        ({}, "text that is missing"),
        ({"text": None}, "text that is null"),
        ({"text": 1}, "text that is a number"),
        ({"text": "a", "text_pair": 1}, "text_pair that is a number"),
        ({"text": "a", "textpair": "b"}, "unknown field 'textpair'"),
    ],
)
def test_invalid_items_say_what_they_are(item: object, says: str) -> None:
    error = parse_item(item, 7, 100)
    assert isinstance(error, ItemError)
    assert error.code == "invalid_item"
    assert error.index == 7
    assert error.message.startswith("inputs[7] ")
    assert says in error.message


def test_a_text_of_too_many_characters_is_refused_before_it_is_tokenised() -> None:
    error = parse_item({"text": "a" * 60, "text_pair": "b" * 60}, 2, 100)
    assert isinstance(error, ItemError)
    assert error.as_json() == {
        "code": "too_long",
        "message": error.message,
        "index": 2,
        "chars": 120,
        "limit": 100,
    }


def test_errors_stand_in_their_place_and_neighbours_become_rows() -> None:
    one = job(["a b", 5, "c " * 20, {"text": "a", "text_pair": "b"}, "d"], announce=Finished())
    queue = _rows(one)
    codes = {index: error.code for index, error in one.columns[0].errors.items()}
    assert codes == {1: "invalid_item", 2: "too_long", 3: "text_pair_not_allowed"}
    assert [row.item for row in queue.rows] == [0, 4]
    too_long = one.columns[0].errors[2].as_json()
    assert (too_long["tokens"], too_long["limit"]) == (22, 16)


def test_truncate_cuts_and_says_so() -> None:
    one = job(["c " * 20, "d"], truncate=True, announce=Finished())
    queue = _rows(one)
    assert [row.num_tokens for row in queue.rows] == [16, 3]
    assert one.columns[0].num_tokens == [22, 3]
    assert one.columns[0].truncated == [True, False]


def test_tasks_of_one_and_of_two_fields_in_one_request() -> None:
    one = job(
        ["a", {"text": "a", "text_pair": "b"}],
        card(fields=("text",)),
        card(body_slot=2, fields=("premise", "hypothesis")),
        announce=Finished(),
    )
    queue = _rows(one)
    assert {i: e.code for i, e in one.columns[0].errors.items()} == {1: "text_pair_not_allowed"}
    assert {i: e.code for i, e in one.columns[1].errors.items()} == {0: "text_pair_required"}
    assert "premise, hypothesis" in one.columns[1].errors[0].message
    assert [(row.item, row.slots) for row in queue.rows] == [(0, (1,)), (1, (2,))]


def test_a_text_is_tokenised_once_however_many_tasks_read_it() -> None:
    text = FakeText()
    cards = [card(body_slot=k, max_tokens=10 + k) for k in range(1, 9)]
    queue = _rows(job(["a b", "c"], *cards, announce=Finished()), text)
    assert text.num_texts == 2
    assert len(queue.rows) == 16


def test_different_limits_share_a_row_only_where_nothing_is_cut() -> None:
    cards = [card(body_slot=0, max_tokens=4), card(body_slot=0, max_tokens=8)]
    queue = _rows(job(["a", "a b c d e f"], *cards, truncate=True, announce=Finished()))
    assert [(row.item, row.num_tokens, row.slots) for row in queue.rows] == [
        (0, 3, (1, 2)),
        (1, 4, (1,)),
        (1, 8, (2,)),
    ]


def test_large_jobs_come_in_chunks_and_in_order() -> None:
    one = job(["a"] * (2 * CHUNK_TEXTS + 3), announce=Finished())
    queue = _rows(one)
    assert queue.chunks == [CHUNK_TEXTS, CHUNK_TEXTS, 3]
    assert [row.item for row in queue.rows] == list(range(len(one.items)))


def test_chunks_are_bounded_in_characters_too() -> None:
    items = ["x" * (CHUNK_CHARS - 1), "y", "z" * (2 * CHUNK_CHARS), "w"]
    ends = [0]
    while ends[-1] < len(items):
        ends.append(chunk_end(items, ends[-1]))
    assert ends == [0, 2, 3, 4]


def test_characters_of_raw_items() -> None:
    items: list[object] = ["abc", {"text": "ab", "text_pair": "c"}, 5, None, []]
    assert [num_chars_of(item) for item in items] == [3, 3, 0, 0, 0]
