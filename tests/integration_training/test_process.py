"""`trunkline train` as a process among people's folders, terminals and signals: its file is never lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters_store.adapter_file import read_adapter_file
from tests.architecture.sources import ROOT
from tests.unit.training.conftest import LABELS, make_rows

NAMES = dict(zip(LABELS, ("naïve", "日本 …", "🙂±"), strict=True))
QUICK = ("--method", "hadamard", "--epochs", "1", "--device", "cpu", "--seeds", "2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A person's own folder: rows with labels of all the world, and files called like ours."""
    rows = [{**row, "label": NAMES[LABELS[row["label"]]]} for row in make_rows("single_sentence", 60, 1)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("modeling", "training", "service", "proof", "adapters_store", "failures", "queue", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the current folder was imported')")
    return tmp_path


def command(backbone: Path, *more: str) -> list[str]:
    data = ("--data", "train.jsonl", "--task", "t", "--backbone", str(backbone), *QUICK)
    return [sys.executable, "-m", "trunkline", "train", *data, *more]


def environment(**values: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "TERM": "dumb"} | values


def is_whole(folder: Path) -> bool:
    return set(read_adapter_file(folder / "t.safetensors").manifest.head.labels) == {*NAMES.values()}


@pytest.mark.parametrize(
    ("encoding", "as_json"), [("ascii", False), ("ascii", True), ("latin-1:strict", True), ("euc-jp", False)]
)
def test_no_encoding_of_the_output_loses_the_file(
    folder: Path, tiny_directory: Path, encoding: str, as_json: bool
) -> None:
    more = ("--json",) if as_json else ()
    done = subprocess.run(
        command(tiny_directory, *more),
        cwd=folder,
        env=environment(PYTHONIOENCODING=encoding, LC_ALL="C"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert is_whole(folder)
    told = done.stdout.decode(encoding.partition(":")[0])
    if as_json:
        assert set(json.loads(told)["labels"]) == {*NAMES.values()}
    else:
        assert "t.safetensors" in told


def test_no_closed_stream_loses_the_file(folder: Path, tiny_directory: Path) -> None:
    shell = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *command(tiny_directory)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert is_whole(folder)


@pytest.mark.parametrize(
    ("stream", "how"), [("stdout", "pipe"), ("stdout", "full"), ("stderr", "pipe"), ("stderr", "full")]
)
def test_nobody_who_listens_and_no_room_lose_the_file(
    folder: Path, tiny_directory: Path, stream: str, how: str
) -> None:
    """What cannot be printed on standard output fails the command; what cannot be told aside does not."""
    read, write = os.pipe()
    os.close(read)
    full = os.open("/dev/full", os.O_WRONLY)
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    streams[stream] = write if how == "pipe" else full
    done = subprocess.run(
        command(tiny_directory), cwd=folder, env=environment(), check=False, text=True, **streams
    )
    os.close(write)
    os.close(full)
    assert done.returncode == (1 if stream == "stdout" else 0)
    assert "Traceback" not in (done.stderr or "")
    assert "Exception ignored" not in (done.stderr or "")
    if stream == "stdout":
        assert ("No space left" in done.stderr) == (how == "full")
    assert is_whole(folder)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_says_so_and_can_go_on(
    folder: Path, tiny_directory: Path, number: int, status: int
) -> None:
    long = command(tiny_directory, "--epochs", "1000000", "--patience", "1000000", "--seeds", "1")
    with subprocess.Popen(long, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("  epoch ") and (folder / "t.safetensors.resume").exists():
                run.send_signal(number)
                break
        told = run.stderr.read().splitlines()
    assert run.returncode == status
    assert told[-2:] == [
        "t.safetensors is not written; the same command goes on from where this one was",
        "stopped",
    ]
    assert not any("Traceback" in line for line in told)
    left = {path.name for path in folder.iterdir() if path.suffix not in (".py", ".jsonl")}
    assert left == {"t.safetensors.resume"}
    resumed = subprocess.Popen(long, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
    with resumed:
        assert resumed.stderr is not None
        assert any(line.startswith("resumed from t.safetensors.resume") for line in resumed.stderr)
        resumed.kill()
