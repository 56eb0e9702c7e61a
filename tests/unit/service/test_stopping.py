"""Stopping: what waits for a job that is still being tokenised looks again soon, and never for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from service.engine.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
from service.state import Service
from tests.unit.service.fakes import FakeModel, Finished, job, scheduler


class Watched(threading.Condition):
    """A condition that remembers with which timeouts it was waited on."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.timeouts.append(timeout)
        return super().wait(timeout)


@pytest.fixture
def wake() -> Watched:
    return Watched()


def started(wake: Watched) -> Engine:
    engine = Engine(scheduler(), Metrics())
    engine._wake = wake
    engine.start(FakeModel).result(20)
    return engine


def test_an_open_job_is_looked_at_again_while_stopping(wake: Watched) -> None:
    """Its rows may come, or it is cancelled, which wakes nobody: there must be waits, and each must end."""
    engine = started(wake)
    opened = job(["never tokenised"], announce=Finished())
    engine.open(opened, 10)
    assert not engine.stop(0.1), "the thread ended with a job open"
    waits = wake.timeouts[1:]
    assert waits, "it looks again without a pause"
    assert all(timeout is not None and 0 < timeout <= 0.1 for timeout in waits)
    assert len(waits) < 1000
    engine.cancel(opened)
    assert engine.stop(5), "the thread did not see that the job was cancelled"


def test_without_work_the_thread_sleeps_until_it_is_woken(wake: Watched) -> None:
    engine = started(wake)
    assert engine.call(lambda _: 1).result(20) == 1
    time.sleep(0.05)
    assert set(wake.timeouts) == {None}
    assert len(wake.timeouts) <= 3
    assert engine.stop(20)


def test_stopping_returns_at_its_deadline_whatever_the_device_does() -> None:
    engine, model = Engine(scheduler(), Metrics()), FakeModel()
    engine.start(lambda: model).result(20)
    engine.call(lambda _: model.gate.wait(20))
    model.gate.clear()
    busy = engine.call(lambda _: model.gate.wait(20))
    stopped: list[bool] = []
    thread = threading.Thread(target=lambda: stopped.append(engine.stop(0.05)), daemon=True)
    thread.start()
    thread.join(10)
    assert stopped == [False]
    model.gate.set()
    assert busy.result(20)
    assert engine.stop(20)


def test_rows_that_come_while_stopping_are_run(wake: Watched) -> None:
    engine, finished = started(wake), Finished()
    late = job([], announce=finished)
    engine.open(late, 10)
    assert not engine.stop(0.05)
    engine.add(late, [], last=True)
    assert finished.wait() == [late]
    assert engine.stop(5)


def service(tmp_path: Path) -> Service:
    return Service(Settings(backbone="none", store=tmp_path / "store", drain_timeout_s=0.05), None)


@pytest.mark.parametrize(("in_flight", "all_answered"), [(0, True), (1, False)])
def test_draining_ends_at_its_deadline(tmp_path: Path, in_flight: int, all_answered: bool) -> None:
    one = service(tmp_path)
    one.num_in_flight = in_flight

    async def drained() -> bool:
        return await asyncio.wait_for(one.drained(0.05), 10)

    assert asyncio.run(drained()) is all_answered


def test_draining_waits_for_the_last_answer(tmp_path: Path) -> None:
    one = service(tmp_path)
    one.num_in_flight = 1

    async def answer() -> None:
        await asyncio.sleep(0.05)
        one.num_in_flight = 0

    async def both() -> bool:
        drained, _ = await asyncio.gather(one.drained(20), answer())
        return drained

    assert asyncio.run(both())
