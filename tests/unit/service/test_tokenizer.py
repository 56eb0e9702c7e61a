"""Items of every form: what becomes a row, and what becomes an error of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from modeling import TextItem, Tokens
from service.engine.items import CHUNK_CHARS, CHUNK_TEXTS, chunk_end
from service.engine.request import Job, Row
from service.engine.tokenizer import Tokenizer
from service.metrics import Metrics
from tests.unit.service.fakes import CHOICE, STRINGS, FakeText, Finished, card, job


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
        job.done.set_exception(failure)
        self.done(job)


def _rows(one: Job, text: FakeText | None = None) -> Collected:
    queue = Collected()
    tokenizer = Tokenizer(text or FakeText(), queue, Metrics(), num_threads=2, max_text_chars=1000)
    tokenizer.start(one)
    queue.done.wait()
    tokenizer.close()
    assert not one.done.done()
    return queue


def test_errors_stand_in_their_place_and_neighbours_become_rows() -> None:
    one = job(["a b", 5, "c " * 20, {"text": "a", "text_pair": "b"}, "d"], announce=Finished())
    queue = _rows(one)
    codes = {index: error.code for index, error in one.columns[0].errors.items()}
    assert codes == {1: "invalid_item", 2: "too_long", 3: "text_pair_not_allowed"}
    assert [row.item for row in queue.rows] == [0, 4]
    too_long = one.columns[0].errors[2].as_json()
    assert (too_long["tokens"], too_long["limit"]) == (22, 16)


class ThreadedText(FakeText):
    """Remembers the threads that texts were read on."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    def tokenize(self, items: Sequence[TextItem], *, words: bool = False) -> list[Tokens]:
        self.threads.add(threading.current_thread().name.partition("_")[0])
        return super().tokenize(items, words=words)


def test_a_few_short_texts_are_read_where_they_came_in_and_all_others_on_a_thread() -> None:
    here = threading.current_thread().name
    for items, thread in ((["a"] * 4, here), (["a"] * 5, "tokenizer"), (["a" * 600], "tokenizer")):
        text = ThreadedText()
        one = job(items, announce=Finished())
        assert [row.item for row in _rows(one, text).rows] == list(range(len(items)))
        assert text.threads == {thread}


def test_a_fault_in_a_short_job_is_its_own() -> None:
    class Broken(FakeText):
        def tokenize(self, items: Sequence[TextItem], *, words: bool = False) -> list[Tokens]:
            raise ZeroDivisionError

    queue, one = Collected(), job(["a"], announce=Finished())
    tokenizer = Tokenizer(Broken(), queue, Metrics(), num_threads=1, max_text_chars=1000)
    tokenizer.start(one)
    tokenizer.close()
    assert isinstance(one.done.exception(), ZeroDivisionError)


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


def test_an_item_with_choices_becomes_a_row_for_each() -> None:
    text = FakeText()
    items = [{"text": "a bb", "choices": ["ccc", "d e"]}, {"text": "f", "choices": ["g", "h", "i"]}]
    one = job(items, card(spec=CHOICE), announce=Finished())
    queue = _rows(one, text)
    assert [(row.item, row.choice, row.encoded.parts[0].ids) for row in queue.rows] == [
        (0, 0, [1, 1, 2, 3, 2]),
        (0, 1, [1, 1, 2, 1, 1, 2]),
        *((1, choice, [1, 1, 1, 2]) for choice in range(3)),
    ]
    assert text.num_texts == 7  # the text of an item once, however many choices
    assert one.columns[0].num_tokens == [6, 4]
    assert one.columns[0].choices == {0: ("ccc", "d e"), 1: ("g", "h", "i")}
    assert one.columns[0].logits.shape == (2, 3)


def test_an_item_whose_longest_choice_is_too_long_fails_alone() -> None:
    items = [{"text": "a", "choices": ["b", "c " * 20]}, {"text": "a", "choices": ["b", "c"]}]
    one = job(items, card(spec=CHOICE), announce=Finished())
    assert [row.item for row in _rows(one).rows] == [1, 1]
    assert one.columns[0].errors[0].as_json()["tokens"] == 23
    cut = job(items, card(spec=CHOICE), announce=Finished(), truncate=True)
    assert [row.num_tokens for row in _rows(cut).rows] == [4, 16, 4, 4]
    assert cut.columns[0].truncated == [True, False]


def test_tasks_with_and_without_choices_in_one_request() -> None:
    items = ["a", {"text": "a", "choices": ["b", "c"]}]
    cards = [card(spec=CHOICE, body_slot=0), card(body_slot=0), card(spec=CHOICE, body_slot=0)]
    one = job(items, *cards, announce=Finished())
    queue = _rows(one)
    assert [{i: e.code for i, e in column.errors.items()} for column in one.columns] == [
        {0: "choices_required"},
        {1: "choices_not_allowed"},
        {0: "choices_required"},
    ]
    assert [(row.item, row.choice, row.slots) for row in queue.rows] == [
        (0, None, (2,)),
        (1, 0, (1, 3)),
        (1, 1, (1, 3)),
    ]


def test_rows_cost_their_virtual_and_decoder_tokens() -> None:
    """Labels are scored for each task; the decoder's pass over a text is shared by the tasks that read it."""
    cards = [
        card(body_slot=0, spec=STRINGS, decoder_tokens=5),
        card(body_slot=0, spec=STRINGS, decoder_tokens=7),
        card(body_slot=0, decoder_per_token=1),
        card(body_slot=0, decoder_per_token=1),
        card(body_slot=1, virtual_tokens=100),
        card(body_slot=2),
    ]
    queue = _rows(job(["a b c"], *cards, announce=Finished()))
    assert [row.num_tokens for row in queue.rows] == [5 + 5 + 7 + 5, 105, 5]


def test_a_row_that_generates_costs_what_it_may_write() -> None:
    cards = [card(body_slot=0, spec=STRINGS, decoder_tokens=5), card(spec=STRINGS, virtual_tokens=3)]
    queue = _rows(job(["a b c"], *cards, announce=Finished(), max_new_tokens=16))
    assert [row.num_tokens for row in queue.rows] == [5 + 16, 5 + 3 + 16]


def test_rows_that_may_share_a_batch_have_the_same_group() -> None:
    cards = [card(body_slot=1), card(body_slot=2), card(body_slot=3, exclusive=True)]
    groups = [row.group for row in _rows(job(["a"], *cards, announce=Finished())).rows]
    assert groups == [None, None, (3, 0)]
    new = [row.group for row in _rows(job(["a"], *cards, announce=Finished(), max_new_tokens=4)).rows]
    assert new == [(0, 4), (0, 4), (3, 4)]


def test_chunks_count_choices_as_texts() -> None:
    items = [{"text": "a", "choices": [str(k) for k in range(100)]}] * 5
    one = job(items, card(spec=CHOICE), announce=Finished())
    assert _rows(one).chunks == [200, 200, 100]


def test_chunks_are_bounded_in_characters_too() -> None:
    items = ["x" * (CHUNK_CHARS - 1), "y", "z" * (2 * CHUNK_CHARS), "w"]
    ends = [0]
    while ends[-1] < len(items):
        ends.append(chunk_end(items, ends[-1]))
    assert ends == [0, 2, 3, 4]


def test_ids_that_came_along_are_taken_for_their_own_texts_alone() -> None:
    """One that is not there has all read here, and so has a task that labels words."""
    ids = {"a b": [91, 92], "c": [93]}
    pair = {"text": "c", "text_pair": "a b"}
    for items, choose, wanted, num_read in (
        (["a b", "c", "a b"], card(), [[91, 92], [93], [91, 92]], 0),
        ([pair], card(fields=("x", "y")), [[93, 91, 92]], 0),
        (["a b", "d"], card(), [[1, 1], [1]], 2),
    ):
        text, one = FakeText(), job(items, choose, announce=Finished())
        one.ids = ids
        assert [row.encoded.parts[0].ids[1:-1] for row in _rows(one, text).rows] == wanted
        assert text.num_texts == num_read
