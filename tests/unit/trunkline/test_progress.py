"""Watching a run: what a log gets, what a terminal gets, what quiet leaves."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import TextIO, cast

import pytest
from rich.console import Console

from training.loop.progress import Progress
from trunkline.cli.progress import STAGES, Lines, LiveBars, RunningLoss, watch


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def _run(progress: AbstractContextManager[Progress]) -> None:
    """A run as the recipe reports it."""
    with progress as followed:
        followed.begin("features", 0)
        followed.step(None)
        followed.end("features")
        followed.begin("head", 4)
        for epoch, value in enumerate((0.5, 0.75, 0.7, 0.6), start=1):
            followed.step(1.0 / epoch)
            followed.evaluated(
                epoch, "accuracy", value, max(0.5, min(value, 0.75), 0.75 if epoch > 1 else 0.0)
            )
        followed.end("head")
        followed.note("3 rows are also in train")


def test_a_log_gets_stages_news_and_notes() -> None:
    out = io.StringIO()
    _run(watch(quiet=False, stream=out))
    lines = out.getvalue().splitlines()
    assert lines[0] == STAGES["features"]
    assert lines[1].startswith("  done in ")
    assert lines[2] == f"{STAGES['head']} (4 steps)"
    assert lines[3] == "  epoch 1  loss 1.0000  accuracy 0.5000 (best 0.5000)"
    assert lines[4].startswith("  epoch 2  loss 0.97")
    assert lines[5].startswith("  done in "), "epochs that bring nothing new are not told"
    assert lines[6] == "3 rows are also in train"


def test_silence_is_broken_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("trunkline.cli.progress.time.monotonic", lambda: now[0])
    out = io.StringIO()
    progress = Lines(out)
    for _ in range(12):
        now[0] += 1.0
        progress.evaluated(1, "accuracy", 0.5, 0.9)
    assert len(out.getvalue().splitlines()) == 3


def test_quiet_leaves_the_notes() -> None:
    for out in (io.StringIO(), Terminal()):
        _run(watch(quiet=True, stream=out))
        assert out.getvalue() == "3 rows are also in train\n"


def test_a_terminal_gets_bars() -> None:
    with watch(quiet=False, stream=Terminal()) as progress:
        assert isinstance(progress, LiveBars)


def test_bars_show_loss_and_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=cast(TextIO, out), width=160, force_terminal=True, color_system=None)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    _run(watch(quiet=False, stream=Terminal()))
    last = out.getvalue()
    assert "3 rows are also in train" in last
    assert "epoch 4: accuracy 0.6000 (best 0.7500)" in last
    assert "loss 0." in last
    assert "4/4" in last


def test_a_step_outside_a_stage_does_not_end_the_run() -> None:
    bars = LiveBars()
    bars.step(0.1)
    bars.evaluated(1, "f1", 0.1, 0.1)
    bars.end("head")


def test_running_loss() -> None:
    loss = RunningLoss()
    assert str(loss) == ""
    loss.add(None)
    loss.add(2.0)
    loss.add(1.0)
    assert loss.value == pytest.approx(1.95)
