"""`trunkline train --method auto` and `trunkline lab`: tables, JSON, files, and refusals with a reason."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from adapters_store.adapter_file import read_adapter_file
from proof import ahead
from tests.integration_training.conftest import save_tiny
from tests.unit.training.conftest import agree, write_task
from tests.unit.trunkline.conftest import Run
from training.lab import arms


@pytest.fixture
def backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny one on disk. Files are not checked again, and two methods are tried."""
    monkeypatch.setattr(ahead, "checker", lambda: nullcontext(agree))
    monkeypatch.setattr(arms, "METHODS_TRIED", ("hadamard", "compacter_pp"))
    return str(save_tiny(tmp_path / "tiny-bert", "bert"))


def test_a_search_is_told_as_a_table(run: Run, tmp_path: Path, backbone: str) -> None:
    data, out = write_task(tmp_path / "demo", "single_sentence"), tmp_path / "demo.safetensors"
    options = ["--backbone", backbone, "--method", "auto", "--budget", "60s", "--epochs", "2"]
    done = run("train", "--data", str(data), "--task", "demo", "--out", str(out), *options)
    assert done.exit_code == 0, done.output
    board = done.stdout[done.stdout.index("tried, on 30 held-out rows") :].splitlines()
    assert sum("linear_probe" in line for line in board) == 1
    assert sum(line.strip().startswith("*") for line in board) == 1
    assert sum("hadamard" in line for line in board) == 3
    assert "compacter_pp at 0.01 failed" in done.stderr
    assert sum(" ± " in line for line in board) == 4


def test_the_board_is_in_the_json(run: Run, tmp_path: Path, backbone: str) -> None:
    data, out = write_task(tmp_path / "demo", "single_sentence"), tmp_path / "demo.safetensors"
    options = ["--backbone", backbone, "--method", "auto", "--budget", "60s", "--epochs", "2", "--json", "-q"]
    done = run("train", "--data", str(data), "--task", "demo", "--out", str(out), *options)
    board = json.loads(done.stdout)["leaderboard"]
    assert board == read_adapter_file(out).manifest.provenance.config["leaderboard"]
    told = {"method", "lr", "layers", "value", "error", "difference", "interval", "num_parameters"}
    assert told | {"file_bytes", "seconds", "chosen"} <= board["standings"][0].keys()


def test_several_tasks_share_the_time_and_one_that_fails_stops_no_other(
    run: Run, tmp_path: Path, backbone: str
) -> None:
    good = write_task(tmp_path / "good", "single_sentence")
    (tmp_path / "bad").mkdir()
    last = write_task(tmp_path / "last", "regression")
    folders = [str(good), str(tmp_path / "bad"), str(last)]
    options = ["--backbone", backbone, "--budget", "9s", "--out", str(tmp_path / "out"), "-q", "--json"]
    done = run("lab", *folders, *options)
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert [result["task"] for result in found] == ["good", "last"]
    assert found[0]["leaderboard"]["budget_s"] <= 3
    assert found[1]["leaderboard"]["budget_s"] > 3  # what the others left
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"good.safetensors", "last.safetensors", "lab.resume"}
    assert "bad" in done.stderr


def test_the_same_command_leaves_what_was_finished(run: Run, tmp_path: Path, backbone: str) -> None:
    good, bad = write_task(tmp_path / "good", "single_sentence"), tmp_path / "bad"
    bad.mkdir()
    options = ["--backbone", backbone, "--budget", "9s", "--out", str(tmp_path), "-q", "--json"]
    first = run("lab", str(good), str(bad), *options)
    file = tmp_path / "good.safetensors"
    written = file.stat().st_mtime_ns
    again = run("lab", str(good), str(bad), *options)
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert file.stat().st_mtime_ns == written
    assert "was finished before" in again.stderr
    file.write_bytes(b"another file")  # no longer what was found
    write_task(bad, "regression")
    last = run("lab", str(good), str(bad), *options)
    assert last.exit_code == 0, last.output
    assert "was finished before" not in last.stderr
    assert file.stat().st_mtime_ns != written
    assert not (tmp_path / "lab.resume").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["train", "--data", "d", "--task", "t", "--budget", "5m"], "budget is '5m', and method hadamard"),
        (
            ["train", "--data", "d", "--task", "t", "--method", "auto", "--lr", "0.1"],
            "lr is 0.1, and --method",
        ),
        (["lab", "a", "b", "--budget", "never"], "not a time over 0"),
        (["lab", "x/a", "y/a"], "2 folders are called a"),
        (["lab", "A b!"], "1 to 64 of lower-case letters"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(run: Run, args: list[str], told: str) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
