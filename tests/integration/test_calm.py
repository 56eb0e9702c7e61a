"""What a program that serves does to its process before it loads a backbone: threads, collector, memory."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from modeling import allocator
from service.server import _Process
from service.settings import Settings
from tests.integration.world import wait_for


@contextmanager
def program(module: str, log: Path, *options: str) -> Iterator[httpx.Client]:
    """A program that serves, and a client of it once it is ready."""
    command = [sys.executable, "-m", module, "serve", "--port", "0", *options]
    with log.open("wb") as told, subprocess.Popen(command, stderr=told) as process:
        try:
            wait_for(lambda: "running on " in log.read_text() or process.poll() is not None)
            url = log.read_text().partition("running on ")[2].split()[0]
            with httpx.Client(base_url=url, timeout=30) as http:
                wait_for(lambda: http.get("/ready").status_code == 200 or process.poll() is not None)
                yield http
        finally:
            process.kill()


@pytest.mark.parametrize("module", ["service", "trunkline"])
def test_threads_are_settled_before_anything_loads_openmp(
    module: str, backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And `/v1/info` tells what the log tells."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    options = ("--store", str(tmp_path / "store"), "--backbone", str(backbone_folder))
    with program(module, tmp_path / "log", *options) as http:
        told = http.get("/v1/info").json()["threads"]
        assert told["wait"] == "OMP_WAIT_POLICY=passive"
        assert told["number"] >= 1
        assert told["why"].startswith("this process may use ")
        assert f'"why": "{told["why"]}"' in (tmp_path / "log").read_text()


def test_what_the_person_set_stays(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "77")
    options = (
        "--store",
        str(tmp_path / "store"),
        "--backbone",
        str(backbone_folder),
        "--device-threads",
        "3",
    )
    with program("service", tmp_path / "log", *options) as http:
        told = http.get("/v1/info").json()["threads"]
    assert told == {"number": 3, "why": "device_threads is 3", "wait": "GOMP_SPINCOUNT=77", "alone_tokens": 0}


def test_imports_are_not_collected_and_freed_memory_is_kept(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: kept.append(gc.isenabled()))
    process = _Process(Settings(backbone=str(backbone_folder), store=tmp_path / "store"))
    gc.disable()  # as `run` does
    try:
        process._on_loading()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()
    assert kept == [True]
