"""How many threads a pass has and how they wait: what is chosen, and that it is what runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from service.engine.engine import Engine
from service.engine.tokenizer import Tokenizer
from service.machine import Machine
from service.metrics import Metrics
from service.threads import Chosen, DevicePool, alone_up_to, choose, have_one, settle, waiting
from tests.unit.service.fakes import FakeModel, FakeText, Finished, card, job, scheduler


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [
        (Machine(8), 8),
        (Machine(8, quota=16.0), 8),
        (Machine(8, quota=3.5), 3),  # the event loop has the rest
        (Machine(8, quota=0.5), 1),
        (Machine(8, busy=1.2), 7),
        (Machine(8, busy=7.0), 6),  # never less than three quarters
        (Machine(8, quota=4.0, busy=3.0), 4),  # there is room beside the others
        (Machine(8, quota=4.0, busy=7.0), 3),
        (Machine(2, busy=1.0), 2),
        (Machine(1, busy=3.0), 1),
    ],
)
def test_as_many_threads_as_the_machine_gives(machine: Machine, wanted: int) -> None:
    assert choose(machine, {}, None).number == wanted


def test_what_the_person_says_counts_first() -> None:
    machine = Machine(8, quota=2.0)
    assert choose(machine, {"OMP_NUM_THREADS": "5,2"}, None).number == 5
    assert choose(machine, {"OMP_NUM_THREADS": "5"}, 3).number == 3
    assert choose(machine, {"OMP_NUM_THREADS": "many"}, None).number == 2
    assert choose(machine, {"OMP_NUM_THREADS": "5"}, None).given
    assert choose(machine, {}, 3).given
    assert not choose(machine, {}, None).given


def test_the_reason_names_what_limited_it() -> None:
    why = choose(Machine(8, quota=4.0, busy=6.9), {}, None).why
    assert why == (
        "this process may use 8 cores, its control group gives it the time of 4, others keep 6.9 busy"
    )


@pytest.mark.parametrize("own", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_threads_sleep_unless_somebody_says_how_they_wait(own: str) -> None:
    environ: dict[str, str] = {"PATH": "/bin"}
    settle(environ, "/lib/libc.so.6")
    assert environ == {"PATH": "/bin", "OMP_WAIT_POLICY": "passive"}
    assert waiting(environ) == "OMP_WAIT_POLICY=passive"
    environ = {own: "17"}
    settle(environ, "/lib/libc.so.6")
    assert environ == {own: "17"}
    assert waiting(environ) == f"{own}=17"


@pytest.mark.parametrize("library", ["/site/torch/lib/libgomp-24e2ab19.so.1.0.0", "/lib/libiomp5.so"])
def test_nothing_is_said_to_a_library_that_is_loaded(library: str) -> None:
    environ: dict[str, str] = {}
    settle(environ, f"7f00-7f01 r-xp {library}\n")
    assert environ == {}
    assert waiting(environ) == "by default"


def test_openmp_reads_what_was_settled_when_torch_is_imported() -> None:
    """The one thing that this rests on: nothing loads OpenMP before, and its library takes the variable."""
    code = "from service.threads import settle_process; settle_process(); import torch"
    environ = {name: text for name, text in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environ["OMP_DISPLAY_ENV"] = "true"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    told = [line for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    assert told
    assert all("PASSIVE" in line.upper() for line in told), told


def test_small_passes_have_one_thread() -> None:
    chosen = Chosen(6, "", alone_tokens=32)
    assert [chosen.for_pass(tokens) for tokens in (1, 32, 33, 4096)] == [1, 1, 6, 6]
    assert Chosen(6, "").for_pass(1) == 6


def test_the_largest_size_that_one_thread_runs_as_fast() -> None:
    """Here a thread takes 1 a token, and every shared pass 50 for the barriers."""
    assert alone_up_to(lambda threads, tokens: tokens / threads + 50 * (threads > 1), 2) == 64
    assert alone_up_to(lambda threads, tokens: tokens / threads, 2) == 0
    assert alone_up_to(lambda threads, tokens: 1.0, 1) == 0
    assert alone_up_to(lambda threads, tokens: 2.0 if (threads, tokens) == (1, 16) else 1.0, 2) == 8


def test_a_single_slow_trial_decides_nothing() -> None:
    calls = iter(range(10_000))
    assert alone_up_to(lambda threads, tokens: 100.0 if next(calls) == 0 else float(threads), 2) == 64


def test_the_device_thread_has_the_chosen_threads_and_others_have_one() -> None:
    before, seen = torch.get_num_threads(), list[int]()
    engine = Engine(scheduler(), Metrics(), DevicePool(Chosen(3, "", alone_tokens=2)))

    def look_elsewhere() -> None:
        have_one()
        seen.append(torch.get_num_threads())

    try:
        engine.start(FakeModel).result(20)
        assert engine.call(lambda _: torch.get_num_threads()).result(20) == 3
        other = threading.Thread(target=look_elsewhere)
        other.start()
        other.join()
        assert seen == [1]
        assert engine.call(lambda _: torch.get_num_threads()).result(20) == 3
    finally:
        assert engine.stop(20)
        torch.set_num_threads(before)


def test_the_pool_is_told_of_the_tokens_of_every_pass() -> None:
    told: list[int | None] = []
    engine = Engine(scheduler(), Metrics(), told.append)
    engine.start(FakeModel).result(20)
    tokenizer = Tokenizer(FakeText(), engine, Metrics(), num_threads=1, max_text_chars=100)
    finished = Finished()
    one = job(["a bb ccc"], card(body_slot=1), announce=finished)
    engine.open(one, 1)
    tokenizer.start(one)
    finished.wait(1)
    engine.call(lambda _: None).result(20)
    assert engine.stop(20)
    tokenizer.close()
    assert told == [None, 5, None]
