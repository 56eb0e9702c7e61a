"""The service as a process: signals, kills, refused settings, and the offline check."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from modeling import Backbone
from proof.errors import CheckFailed
from proof.fresh import check_in_fresh_process
from service.__main__ import main
from tests.folders import set_weights
from tests.integration.world import TEXTS, file_of, push, running, wait_for

pytestmark = pytest.mark.timeout(300)  # each start imports torch: seconds, and many on a busy machine

LONG = " ".join(f"w{i % 80}" for i in range(60))


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, **environment},
        check=False,
    )


def test_sigterm_finishes_what_was_accepted_and_ends_with_zero(
    backbone_folder: Path, backbone: Backbone, tmp_path: Path
) -> None:
    """With a token file, which is made at the start; and nothing of a text or the token is ever logged."""
    path = tmp_path / "token"
    with running(backbone_folder, tmp_path / "store", {"TRUNKLINE_TOKEN_FILE": str(path)}) as server:
        token = path.read_text().strip()
        assert server.http.get("/v1/tasks").status_code == 401
        server.http.headers["Authorization"] = f"Bearer {token}"
        assert push(server.http, "mood", file_of(backbone, "mood")).status_code == 201
        bulk = {"task": "mood", "inputs": ["w1 w2 supersecretword", 5, *[LONG] * 2000]}
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(server.http.post, "/v1/predict", json=bulk) for _ in range(3)]
            wait_for(lambda: _metric(server.http, "trunkline_open_requests") == 3)
            idle = httpx.Client(base_url=server.http.base_url, headers=server.http.headers)
            assert idle.get("/live").json() == {"status": "live", "reason": None}
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: _status(idle, "/ready") == 503)
            assert idle.get("/live").status_code == 200
            refused = idle.post("/v1/predict", json={"task": "mood", "inputs": "w1"})
            assert (refused.status_code, refused.json()["code"]) == (503, "draining")
            assert refused.headers["retry-after"]
            answers = [job.result(60) for job in jobs]
        idle.close()
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert all(len(answer.json()["predictions"]) == 2002 for answer in answers)
        assert server.process.wait(30) == 0
        log = server.log.read_text()
    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())
    assert "supersecretword" not in log
    assert token not in log


def _status(http: httpx.Client, path: str) -> int:
    return http.get(path).status_code


def _metric(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_kills_during_uploads_leave_what_was_acknowledged(
    backbone_folder: Path, backbone: Backbone, tmp_path: Path
) -> None:
    """Once in the middle of a body, once somewhere in a series of uploads; the store opens as it was."""
    store = tmp_path / "store"
    files = [file_of(backbone, "mood", seed) for seed in range(30)]
    with running(backbone_folder, store) as server:
        push(server.http, "mood", files[0])
        before, answer = server.http.get("/v1/tasks").json(), _logits(server.http)
        url = httpx.URL(str(server.http.base_url))
        head = f"POST /v1/tasks/mood/versions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(files[1])}"
        with socket.create_connection((url.host, url.port or 80)) as connection:
            connection.sendall(f"{head}\r\n\r\n".encode() + files[1][: len(files[1]) // 2])
            time.sleep(0.1)
            assert server.http.get("/v1/tasks").json() == before  # half an upload is nothing
            server.stop(signal.SIGKILL)
    acknowledged = {1}
    with running(backbone_folder, store) as server:
        assert server.http.get("/v1/tasks").json() == before
        assert _logits(server.http) == answer
        killer = threading.Timer(0.1, server.process.kill)
        with contextlib.suppress(httpx.HTTPError):  # it is killed in the middle, as it should be
            for number, data in enumerate(files[1:]):
                acknowledged.add(push(server.http, "mood", data).json()["version"])
                if number == 0:
                    killer.start()
        killer.join()
        assert server.process.wait(20) == -signal.SIGKILL
    with running(backbone_folder, store) as server:
        listed = server.http.get("/v1/tasks").json()["tasks"]
        versions = {version["version"] for task in listed for version in task["versions"]}
        assert acknowledged <= versions
        assert len(versions) <= len(acknowledged) + 1
        assert all(version["state"] == "resident" for task in listed for version in task["versions"])
        assert server.stop(signal.SIGINT) == 0


def _logits(http: httpx.Client) -> Any:
    body = {"task": "mood", "inputs": TEXTS[:3], "raw": True}
    return http.post("/v1/predict", json=body).json()["predictions"]


def test_without_a_token_only_loopback(backbone_folder: Path, tmp_path: Path) -> None:
    arguments = (
        "serve",
        "--host",
        "0.0.0.0",
        "--store",
        str(tmp_path / "s"),
        "--backbone",
        str(backbone_folder),
    )
    refused = _run(*arguments)
    assert refused.returncode == 2
    assert "loopback" in refused.stderr
    assert "TRUNKLINE_TOKEN" in refused.stderr
    assert not (tmp_path / "s").exists()


def test_settings_that_make_no_sense_end_with_two(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called as they were given: by the flag, or by the variable."""
    monkeypatch.setenv("TRUNKLINE_PORT", "http")
    assert main(["serve", "--max-items", "0", "--cors-origins=app.example"]) == 2
    told = sorted(capsys.readouterr().err.splitlines())
    starts = ["TRUNKLINE_PORT is 'http'", "cors_origins is 'app.example'", "max_items is '0'"]
    assert [line.partition(":")[0] for line in told] == starts


def test_what_an_orchestrator_sets_stops_nothing(tmp_path: Path) -> None:
    arguments = ("serve", "--backbone", str(tmp_path / "nowhere"), "--store", str(tmp_path / "s"))
    started = _run(*arguments, TRUNKLINE_PORT="tcp://10.96.0.12:8000", TRUNKLINE_SERVICE_HOST="10.96.0.12")
    assert started.returncode == 1, "it comes as far as the backbone"
    told = started.stderr.splitlines()
    assert [line.partition(" ")[0] for line in told] == ["warning:", "error:"]
    assert "enableServiceLinks: false" in told[0]


def test_a_backbone_that_is_not_there_ends_with_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    failed = _run(
        "serve", "--backbone", str(tmp_path / "empty"), "--store", str(tmp_path / "s"), "--port", "0"
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: backbone ")
    assert "config.json" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1, "it is told before anything is logged"


def test_a_backbone_that_fails_to_load_is_told_in_the_log_without_a_trace(
    backbone_folder: Path, tmp_path: Path
) -> None:
    """Its folder looks sound; only loading shows that some weights are missing."""
    folder = shutil.copytree(backbone_folder, tmp_path / "lighter")
    set_weights(folder, lambda weights: dict(sorted(weights.items())[1:]))
    failed = _run("serve", "--backbone", str(folder), "--store", str(tmp_path / "s"), "--port", "0")
    assert failed.returncode == 1
    lines = [json.loads(line) for line in failed.stderr.splitlines()]
    (told,) = [line for line in lines if line["message"] == "the service cannot start"]
    assert told["reason"].startswith("BackboneError: ")
    assert not any("exception" in line for line in lines)


def test_a_port_that_is_taken_ends_with_one(backbone_folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ("serve", "--backbone", str(backbone_folder), "--store", str(tmp_path / "s"))
        assert _run(*arguments, "--port", port).returncode == 1


def test_a_fresh_process_reports_or_tells_every_failure(
    backbone_folder: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    good.write_bytes(file_of(backbone, "mood"))
    bad.write_bytes(good.read_bytes()[:-7])
    for name in (
        "modeling",
        "proof",
        "torch",
        "json",
    ):  # of a person, where training runs
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the current folder was imported')")
    monkeypatch.chdir(tmp_path)
    report = check_in_fresh_process(Path(good.name), str(backbone_folder))
    assert (report.task, report.probes.count, report.labels) == ("mood", 8, ("sad", "glad"))
    for file, folder, says in (
        (bad, backbone_folder, "allowed:"),
        (tmp_path / "nothing", backbone_folder, "No such file"),
        (good, tmp_path / "nowhere", "cannot be loaded"),
    ):
        with pytest.raises(CheckFailed, match=says):
            check_in_fresh_process(file, str(folder))
