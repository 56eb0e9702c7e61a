"""SIGTERM and SIGINT before the service is ready: it ends at once with 0, and says nothing of errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.world import Process, wait_for

pytestmark = pytest.mark.timeout(300)

# A module that the interpreter runs first of all: it stops the program in the middle of an import.
STOPS = """
import importlib.abc, os, signal, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r} and {name!r} not in sys.modules:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder())
"""
SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize(
    ("program", "number", "name"),
    [
        ("service", signal.SIGTERM, "pydantic"),
        ("trunkline", signal.SIGINT, "service.settings"),
        ("trunkline", signal.SIGTERM, "uvicorn"),
        ("service", signal.SIGINT, "service.app"),
        ("service", signal.SIGTERM, "torch"),
        ("trunkline", signal.SIGINT, "torch"),
        ("trunkline", signal.SIGTERM, "transformers"),
    ],
)
def test_in_the_middle_of_an_import(
    tmp_path: Path, backbone_folder: Path, number: int, program: str, name: str
) -> None:
    """Those before the server listens, and those on a thread while it answers `/live`."""
    (tmp_path / "sitecustomize.py").write_text(STOPS.format(name=name, number=int(number)))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), str(Path.cwd())])
    options = ("serve", "--store", str(tmp_path / "s"), "--backbone", str(backbone_folder), "--port", "0")
    done = subprocess.run(
        [sys.executable, "-m", program, *options],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["level"] for line in lines} <= {"info"}
    assert not any("exception" in line for line in lines)


@pytest.mark.parametrize("number", SIGNALS)
def test_as_soon_as_it_listens(tmp_path: Path, backbone_folder: Path, number: int) -> None:
    server = Process(backbone_folder, tmp_path / "store")
    wait_for(lambda: server._url() is not None or server.process.poll() is not None)
    assert server.stop(number) == 0
    assert not any("exception" in json.loads(line) for line in server.log.read_text().splitlines())
