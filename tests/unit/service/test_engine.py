"""The device thread with a fake model: order, isolation of failures, cancelling, draining, calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from modeling import Encoded, Placement, TextItem, Tokens
from service.engine.engine import Engine
from service.engine.request import Job, Row
from service.engine.runner import is_out_of_memory
from service.engine.tokenizer import Tokenizer
from service.errors import NotReady, Overloaded
from service.metrics import Metrics
from tests.unit.service.fakes import (
    CHOICE,
    STRINGS,
    FakeModel,
    FakePacked,
    FakeText,
    Finished,
    card,
    engine_with,
    job,
    value_of,
)


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def running(model: FakeModel) -> Iterator[tuple[Engine, Metrics, Tokenizer]]:
    engine, metrics = engine_with(model)
    tokenizer = Tokenizer(FakeText(), engine, metrics, num_threads=2, max_text_chars=1000)
    yield engine, metrics, tokenizer
    model.gate.set()
    assert engine.stop(20)
    tokenizer.close()


def _submit(engine: Engine, tokenizer: Tokenizer, one: Job) -> None:
    engine.open(one, 10)
    tokenizer.start(one)


def test_every_row_gets_the_logits_of_its_own_text_and_slot(
    running: tuple[Engine, Metrics, Tokenizer],
) -> None:
    engine, _, tokenizer = running
    finished = Finished()
    jobs = [
        job(["a bb", "ccc", ""], card(body_slot=1), card(body_slot=2), announce=finished) for _ in range(20)
    ]
    for one in jobs:
        _submit(engine, tokenizer, one)
    assert {one.number for one in finished.wait(20)} == {one.number for one in jobs}
    for one in jobs:
        assert one.done.exception(0) is None
        assert one.columns[0].logits.tolist() == [[6, 1], [6, 1], [3, 1]]
        assert one.columns[1].logits.tolist() == [[6, 2], [6, 2], [3, 2]]
        assert one.columns[0].num_tokens == [4, 3, 2]


def test_one_thread_runs_the_model_and_the_calls(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, _, tokenizer = running
    finished = Finished()
    threads = {engine.call(lambda _: threading.get_ident()).result(20) for _ in range(3)}
    _submit(engine, tokenizer, job(["a"], announce=finished))
    finished.wait()
    assert model.threads == threads
    assert threading.get_ident() not in threads


def test_what_waits_while_the_device_is_busy_becomes_one_batch(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, metrics, tokenizer = running
    finished = Finished()
    model.gate.clear()
    _submit(engine, tokenizer, job(["first"], announce=finished))
    assert model.entered.wait(20)
    for _ in range(5):
        _submit(engine, tokenizer, job(["later"], announce=finished))
    while engine.scheduler.waiting_rows < 5:
        time.sleep(0.001)
    model.gate.set()
    finished.wait(6)
    assert [len(encoded) for encoded, _, _ in model.batches] == [1, 5]
    assert value_of(metrics, "trunkline_batch_rows_count") == 2
    assert value_of(metrics, "trunkline_queue_seconds_count") == 6


def test_head_only_tasks_share_one_row_per_text(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, _, tokenizer = running
    finished = Finished()
    cards = [card(body_slot=0), card(body_slot=7), card(body_slot=0, max_tokens=12)]
    one = job(["a bb", "c"], *cards, announce=finished)
    _submit(engine, tokenizer, one)
    finished.wait()
    assert sum(len(encoded) for encoded, _, _ in model.batches) == 4  # 2 texts x (shared, own)
    assert [column.logits.tolist() for column in one.columns] == [[[6, k], [4, k]] for k in (1, 2, 3)]


def test_choices_are_put_together_in_their_order(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, _, tokenizer = running
    finished = Finished()
    items = [
        {"text": "a", "choices": ["bbb", "c", "dd d"]},
        "no choices",
        {"text": "e", "choices": ["f", "gg"]},
    ]
    one = job(items, card(spec=CHOICE), announce=finished)
    _submit(engine, tokenizer, one)
    finished.wait()
    assert one.columns[0].logits.tolist() == [[7, 5, 7], [0, 0, 0], [5, 6, 0]]
    assert set(one.columns[0].errors) == {1}


def test_rows_that_generate_are_a_mixed_batch_of_their_own(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, metrics, tokenizer = running
    finished = Finished()
    model.gate.clear()
    _submit(engine, tokenizer, job(["first"], announce=finished))
    assert model.entered.wait(20)
    writers = [
        job(["a", "bb"], card(spec=STRINGS), announce=finished, max_new_tokens=4),
        job(["c"], card(spec=STRINGS, body_slot=2), announce=finished, max_new_tokens=4),
        job(["d"], card(spec=STRINGS), announce=finished, max_new_tokens=9),
    ]
    reader = job(["e"], card(spec=STRINGS), announce=finished)
    for one in (*writers, reader):
        _submit(engine, tokenizer, one)
    while engine.scheduler.waiting_rows < 5:
        time.sleep(0.001)
    model.gate.set()
    finished.wait(5)
    assert sorted(model.generated) == [([1], 9), ([1, 2, 1], 4)]
    assert [writer.columns[0].texts for writer in writers] == [
        {0: "4 by 1", 1: "5 by 1"},
        {0: "4 by 2"},
        {0: "4 by 1"},
    ]
    assert reader.columns[0].logits.tolist() == [[4, 1]]
    assert value_of(metrics, 'trunkline_passes_total{kind="generate"}') == 2
    assert value_of(metrics, 'trunkline_passes_total{kind="mixed"}') == 2


def test_an_exclusive_adapter_is_alone_in_its_batches(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, metrics, tokenizer = running
    finished = Finished()
    model.gate.clear()
    _submit(engine, tokenizer, job(["first"], announce=finished))
    assert model.entered.wait(20)
    cards = [card(body_slot=1), card(body_slot=900, exclusive=True), card(body_slot=901, exclusive=True)]
    jobs = [job(["a", "bb", "ccc"], *cards, announce=finished) for _ in range(3)]
    for one in jobs:
        _submit(engine, tokenizer, one)
    while engine.scheduler.waiting_rows < 27:
        time.sleep(0.001)
    model.gate.set()
    finished.wait(4)
    assert sorted(body_slots for _, body_slots, _ in model.batches) == [[1], [1] * 9, [900] * 9, [901] * 9]
    for one in jobs:
        assert [column.logits[:, 0].tolist() for column in one.columns] == [[4, 5, 6]] * 3
        assert not any(column.errors for column in one.columns)
    assert value_of(metrics, 'trunkline_passes_total{kind="exclusive"}') == 2


def test_a_text_that_cannot_be_generated_fails_alone(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, _, tokenizer = running
    finished = Finished()
    model.fail = lambda encoded: RuntimeError("no") if any(9 in one.ids for one in encoded) else None
    one = job(["a", "poisonous", "bb"], card(spec=STRINGS), announce=finished, max_new_tokens=4)
    _submit(engine, tokenizer, one)
    finished.wait()
    assert one.columns[0].texts == {0: "4 by 1", 2: "5 by 1"}
    assert {index: error.code for index, error in one.columns[0].errors.items()} == {1: "internal"}


def test_an_adapter_is_placed_with_what_its_rows_cost(model: FakeModel) -> None:
    packed: Any = FakePacked(virtual_tokens=7, label_tokens=5)
    assert model.placement(model.install(packed)) == Placement(1, 1, virtual_tokens=7, decoder_tokens=5)
    packed = FakePacked(exclusive=True, reads_end=True)
    assert model.placement(model.install(packed)) == Placement(2, 2, exclusive=True, decoder_per_token=1)
    packed = FakePacked(has_body=False)
    assert model.placement(model.install(packed)) == Placement(3, 0)


def test_a_poisoned_row_fails_alone(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    engine, metrics, tokenizer = running
    finished = Finished()
    poison = "poisonous"

    def fail(encoded: Sequence[Encoded]) -> Exception | None:
        return RuntimeError("device said no") if any(9 in one.ids for one in encoded) else None

    model.fail = fail
    model.gate.clear()
    first = job(["x"], announce=finished)
    _submit(engine, tokenizer, first)
    assert model.entered.wait(20)
    jobs = [job([f"{'y' * k} z" for k in range(1, 5)], announce=finished) for _ in range(3)]
    jobs[1].items = ["y z", poison, "yyy z", "yyyy z"]
    for one in jobs:
        _submit(engine, tokenizer, one)
    while engine.scheduler.waiting_rows < 12:
        time.sleep(0.001)
    model.gate.set()
    finished.wait(4)
    assert {index: error.code for index, error in jobs[1].columns[0].errors.items()} == {1: "internal"}
    assert jobs[1].columns[0].logits[:, 0].tolist() == [5, 0, 7, 8]
    for one in (jobs[0], jobs[2]):
        assert not one.columns[0].errors
        assert one.columns[0].logits[:, 0].tolist() == [5, 6, 7, 8]
    assert value_of(metrics, 'trunkline_device_failures_total{code="internal"}') > 0
    assert poison not in caplog.text


def test_out_of_memory_halves_the_batch_and_all_are_answered(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, metrics, tokenizer = running
    finished = Finished()
    model.fail = lambda encoded: MemoryError() if len(encoded) > 2 else None
    one = job([f"{'y' * k}" for k in range(1, 12)], announce=finished)
    _submit(engine, tokenizer, one)
    finished.wait()
    assert not one.columns[0].errors
    assert one.columns[0].logits[:, 0].tolist() == [k + 3 for k in range(1, 12)]
    assert value_of(metrics, 'trunkline_device_failures_total{code="out_of_memory"}') > 0


def test_a_lost_device_ends_in_errors_and_not_in_endless_passes(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, _, tokenizer = running
    finished = Finished()
    model.fail = lambda encoded: RuntimeError("device lost")
    one = job(["a"] * 200, announce=finished)
    _submit(engine, tokenizer, one)
    finished.wait()
    assert {error.code for error in one.columns[0].errors.values()} == {"internal"}
    assert len(one.columns[0].errors) == 200
    model.fail = lambda encoded: None
    _submit(engine, tokenizer, job(["a"], announce=finished))
    assert not finished.wait(2)[-1].columns[0].errors


def test_a_cancelled_job_leaves_the_queue_and_is_not_announced(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    engine, _, tokenizer = running
    finished = Finished()
    model.gate.clear()
    _submit(engine, tokenizer, job(["first"], announce=finished))
    assert model.entered.wait(20)
    left, stays = job(["a"] * 300, announce=finished), job(["b"], announce=finished)
    _submit(engine, tokenizer, left)
    _submit(engine, tokenizer, stays)
    engine.cancel(left)
    while engine.scheduler.num_open > 1 or engine.scheduler.waiting_rows != 1:
        time.sleep(0.001)
    model.gate.set()
    assert finished.wait(2)[-1] is stays
    assert sum(len(encoded) for encoded, _, _ in model.batches) == 2


def test_a_failing_tokenizer_fails_its_job_alone(model: FakeModel) -> None:
    class Broken(FakeText):
        def tokenize(self, items: Sequence[TextItem], *, words: bool = False) -> list[Tokens]:
            raise ValueError("tokenizer broke")

    engine, metrics = engine_with(model)
    tokenizer = Tokenizer(Broken(), engine, metrics, num_threads=1, max_text_chars=1000)
    finished = Finished()
    one = job(["a"], announce=finished)
    _submit(engine, tokenizer, one)
    finished.wait()
    assert isinstance(one.done.exception(0), ValueError)
    assert engine.scheduler.num_open == 0
    tokenizer.close()
    assert engine.stop(20)


def test_a_full_queue_refuses_with_a_time(model: FakeModel) -> None:
    engine, metrics = engine_with(model, max_waiting_tokens=100, max_charge_tokens=60)
    announce = Finished()
    engine.open(job(["a"], announce=announce), 1_000_000)
    with pytest.raises(Overloaded) as caught:
        engine.open(job(["a"], announce=announce), 50)
    assert 1 <= caught.value.retry_after_s <= 60
    assert value_of(metrics, 'trunkline_rejected_total{code="overloaded"}') == 1


def test_stopping_finishes_what_was_accepted_and_refuses_the_rest(model: FakeModel) -> None:
    engine, metrics = engine_with(model)
    tokenizer = Tokenizer(FakeText(), engine, metrics, num_threads=1, max_text_chars=1000)
    finished = Finished()
    model.gate.clear()
    jobs = [job(["a"] * 40, announce=finished) for _ in range(3)]
    for one in jobs:
        _submit(engine, tokenizer, one)
    stopping = threading.Thread(target=engine.stop, args=(20,))
    stopping.start()
    assert model.entered.wait(20)
    time.sleep(0.05)
    with pytest.raises(NotReady):
        engine.open(job(["a"], announce=finished), 1)
    with pytest.raises(NotReady):
        engine.call(lambda model: None)
    model.gate.set()
    stopping.join(20)
    assert len(finished.jobs) == 3
    assert all(not one.columns[0].errors and one.done.exception(0) is None for one in jobs)
    tokenizer.close()


def _row(one: Job, item: int) -> Row:
    made = Row(one, item, Encoded([1, item + 5, 2], [0] * 3, 3, truncated=False), 1)
    made.read_by(0, one.columns[0])
    return made


def test_a_job_is_done_when_its_last_rows_have_come_and_gone(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel
) -> None:
    """Rows come in parts: a job whose rows so far are answered is not done, nor is one that is closed."""
    engine, finished = running[0], Finished()
    one = job(["a", "b", "c"], announce=finished)
    engine.open(one, 10)
    engine.add(one, [_row(one, 0)], last=False)
    while not model.batches:
        time.sleep(0.001)
    engine.call(lambda _: None).result(20)
    assert not one.finished
    assert engine.scheduler.num_open == 1
    model.gate.clear()
    model.entered.clear()
    engine.add(one, [_row(one, 1), _row(one, 2)], last=True)
    assert model.entered.wait(20)
    assert not one.finished
    model.gate.set()
    assert finished.wait() == [one]
    assert one.columns[0].logits[:, 0].tolist() == [8, 9, 10]
    scheduler = engine.scheduler
    assert (scheduler.waiting_rows, scheduler.waiting_tokens) == (0, 0)
    assert (scheduler.charged_tokens, scheduler.num_open) == (0, 0)


def test_what_not_even_halving_survives_fails_its_batch_and_not_the_thread(
    running: tuple[Engine, Metrics, Tokenizer], model: FakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    engine, _, tokenizer = running
    finished = Finished()
    fatal: Any = SystemExit("a library gave up")
    model.fail = lambda encoded: fatal
    first = job(["a", "b"], announce=finished)
    _submit(engine, tokenizer, first)
    finished.wait()
    errors = first.columns[0].errors
    assert {item: error.code for item, error in errors.items()} == {0: "internal", 1: "internal"}
    assert "the batch was lost (SystemExit)" in errors[0].message
    model.fail = lambda encoded: None
    _submit(engine, tokenizer, job(["a"], announce=finished))
    assert not finished.wait(2)[1].columns[0].errors
    assert "a batch was lost" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("x"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("index out of range"), False),
        (ValueError("memory"), False),
    ],
)
def test_lack_of_memory_is_told_from_other_failures(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_time_to_come_back_follows_the_measured_rate(
    running: tuple[Engine, Metrics, Tokenizer],
) -> None:
    """A running mean of tokens a second, a tenth of it from the last batch; a thousand before the first."""
    engine, announce = running[0], Finished()
    full = [job(["a"], announce=announce) for _ in range(10)]
    for one in full:
        engine.open(one, 100)

    def retry_after_s() -> int:
        with pytest.raises(Overloaded) as caught:
            engine.open(job(["a"], announce=announce), 100)
        return caught.value.retry_after_s

    def observe(num_tokens: int, seconds: float) -> None:
        row = _row(full[0], 0)
        row.num_tokens = num_tokens
        engine._observe([row], 0.0, seconds)

    assert retry_after_s() == 1  # of 1000 tokens
    observe(200, 2.0)
    assert retry_after_s() == 10
    observe(300, 1.0)  # 0.9 x 100 + 0.1 x 300
    assert retry_after_s() == 8
    for _ in range(40):
        observe(1, 1.0)
    assert retry_after_s() == 60
    for one in full:
        engine.cancel(one)


def test_an_exception_of_a_call_reaches_its_caller_alone(
    running: tuple[Engine, Metrics, Tokenizer],
) -> None:
    engine, _, _ = running

    def fail(_: object) -> None:
        raise KeyError("slot")

    with pytest.raises(KeyError):
        engine.call(fail).result(20)
    assert engine.call(lambda _: 3).result(20) == 3


def test_a_model_that_cannot_be_built_fails_the_start() -> None:
    from tests.unit.service.fakes import scheduler

    engine = Engine(scheduler(), Metrics())

    def build() -> FakeModel:
        raise OSError("no weights")

    with pytest.raises(OSError, match="no weights"):
        engine.start(build).result(20)
