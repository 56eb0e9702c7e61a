"""Front processes: what is asked through one is answered as by the device process itself, which decides."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeling import Backbone
from tests.integration.oddities import ASK, BODIES, JSON, RAW, REQUEST, told
from tests.integration.world import (
    TEXTS,
    Process,
    adapter_of,
    assert_close,
    file_of,
    logits_alone,
    push,
    running,
    wait_for,
)

pytestmark = pytest.mark.timeout(300)  # each start imports torch: seconds, and many on a busy machine


@dataclass(frozen=True)
class World:
    """A service with two fronts, asked through them (`http`) and past them, on the socket that they use."""

    process: Process
    http: httpx.Client
    past: httpx.Client

    def both(self, method: str = "POST", url: str = "/v1/predict", **sent: Any) -> httpx.Response:
        """The answer through a front, after comparing it with the one past it."""
        through, past = (http.request(method, url, **sent) for http in (self.http, self.past))
        assert told(through) == told(past)
        return through

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))

    def calls(self) -> float:
        return self.metric("trunkline_front_calls_total")


@contextlib.contextmanager
def fronts(backbone: Path, store: Path, **environment: str) -> Iterator[World]:
    """Two of them; its temporary folder has a short path, as that of a Unix socket has to be."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"TRUNKLINE_WORKERS": "2", "TMPDIR": folder, **environment}
        with running(backbone, store, given) as process:
            wait_for(lambda: _metric(process.http, "trunkline_fronts") == 2)
            (own,) = Path(folder).glob("trunkline-*/http")
            headers = {"X-Request-ID": "same"}
            past = httpx.HTTPTransport(uds=str(own))
            url = process.http.base_url
            with (
                httpx.Client(base_url=url, headers=headers, timeout=60) as http,
                httpx.Client(base_url=url, headers=headers, timeout=60, transport=past) as device,
            ):
                yield World(process, http, device)


def _metric(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def front_pids(process: Process) -> list[int]:
    """The fronts that were started, in order."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    return [line["pid"] for line in lines if line["message"] == "a front process serves"]


@pytest.fixture(scope="module")
def world(
    backbone_folder: Path, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A service with every task, each uploaded through a front; tests leave it as it is."""
    with fronts(backbone_folder, tmp_path_factory.mktemp("fronts") / "store") as made:
        for task, data in files.items():
            assert push(made.http, task, data).status_code == 201
        yield made


def test_plain_calls_are_taken_off_the_wire_and_others_passed_on(world: World) -> None:
    """Else nothing here would compare two ways."""
    before = world.calls()
    assert world.http.post("/v1/predict", json=ASK).status_code == 200
    assert world.calls() == before + 1
    own = {"Origin": str(world.http.base_url).rstrip("/")}
    assert world.http.post("/v1/predict", json=ASK, headers=own).status_code == 200
    assert world.http.post("/v1/predict", content=iter([b"{}"]), headers=JSON).status_code == 422
    assert world.past.post("/v1/predict", json=ASK).status_code == 200
    assert world.calls() == before + 1


@pytest.mark.parametrize(("status", "body"), BODIES, ids=lambda value: json.dumps(value)[:40])
def test_bodies_of_every_kind_are_answered_alike(world: World, status: int, body: Any) -> None:
    assert world.both(content=json.dumps(body).encode(), headers=JSON).status_code == status


@pytest.mark.parametrize(
    ("status", "sent"), RAW, ids=[f"{row}-{status}" for row, (status, _) in enumerate(RAW)]
)
def test_bytes_of_every_kind_are_answered_alike(world: World, status: int, sent: dict[str, Any]) -> None:
    assert world.both(**sent).status_code == status


@given(request=REQUEST, cut=st.none() | st.integers(0, 60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_is_answered_alike(world: World, request: dict[str, Any], cut: int | None) -> None:
    body = json.dumps(request).encode()
    answered = world.both(content=body if cut is None else body[:cut], headers=JSON)
    assert answered.status_code < 500


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_and_paths_are_answered_alike(world: World, method: str) -> None:
    assert world.both(method, json=ASK).status_code == 405
    for url in ("/v1/predict/", "//v1/predict", "/V1/predict", "/v1/predict%2F", "/v1/predic"):
        assert world.both("POST", url, json=ASK).status_code == 404
    assert world.both("POST", "/v1/%70redict?", json=ASK).status_code == 200


def test_every_other_route_is_answered_alike(world: World, files: dict[str, bytes]) -> None:
    for url in ("/live", "/ready", "/docs", "/openapi.json", "/v1/info", "/v1/limits", "/v1/tasks?limit=2"):
        assert world.both("GET", url).status_code == 200
        assert world.both("HEAD", url).content == b""
    assert world.both("GET", "/v1/tasks/mood").headers["etag"]
    assert world.both("GET", "/v1/tasks/mood/versions/1").status_code == 200
    octets = {"Content-Type": "application/octet-stream"}
    known = world.both("POST", "/v1/tasks/mood/versions", content=files["mood"], headers=octets)
    assert known.json()["version"] == 1
    pieces = [files["mood"][:100], b"", files["mood"][100:]]
    again = world.http.post("/v1/tasks/mood/versions", content=iter(pieces), headers=octets)
    assert told(again) == told(known), "without a length, in chunks"
    bad = world.both("POST", "/v1/tasks/mood/versions", content=files["mood"][:-5], headers=octets)
    assert bad.status_code == 422


def test_many_texts_and_large_answers_are_answered_alike(world: World) -> None:
    for inputs in (TEXTS, TEXTS * 9, [f"{text} w{i}" for i in range(20) for text in TEXTS]):
        answered = world.both(json={"tasks": ["mood", "topic"], "inputs": inputs, "raw": True}).json()
        assert [len(one["predictions"]) for one in answered["results"]] == [len(inputs)] * 2


def test_a_front_has_no_torch_and_little_memory(world: World) -> None:
    pids = front_pids(world.process)
    assert len(pids) == 2
    for pid in pids:
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert "tokenizers" in mapped
        assert not any(name in mapped for name in ("libtorch", "torch/", "numpy", "safetensors"))
        status = Path(f"/proc/{pid}/status").read_text()
        resident_kib = int(status.partition("VmRSS:")[2].split()[0])
        assert resident_kib < 120 * 1024


def test_a_caller_who_leaves_is_noticed(world: World) -> None:
    before = world.metric("trunkline_cancelled_total")
    body = json.dumps({"task": "mood", "inputs": [" ".join(["w1 w2"] * 29)] * 250, "truncate": True})
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    url = httpx.URL(str(world.http.base_url))

    def leaves() -> bool:
        calls = world.calls()
        with socket.create_connection((url.host, url.port or 80)) as connection:
            connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
            wait_for(lambda: world.calls() > calls)
        wait_for(lambda: world.metric("trunkline_open_requests") == 0)
        return world.metric("trunkline_cancelled_total") > before

    with ThreadPoolExecutor(2) as pool:  # others keep the device busy meanwhile
        bulk = {"task": "topic", "inputs": [" ".join(["w3 w4"] * 29)] * 6000, "truncate": True}
        busy = [pool.submit(world.past.post, "/v1/predict", json=bulk) for _ in range(2)]
        wait_for(lambda: world.metric("trunkline_open_requests") == 2)
        assert leaves()
        assert [one.result(120).status_code for one in busy] == [200, 200]


def test_each_answer_is_of_a_version_that_was_current(
    backbone_folder: Path, backbone: Backbone, tmp_path: Path
) -> None:
    """Uploads under load through both fronts: no answer is older than what was there when it was asked for,
    none newer than what there was when it came, and each has the numbers of the version that it names."""
    num_versions, text = 8, TEXTS[0]
    files = [file_of(backbone, "mood", seed) for seed in range(num_versions)]
    wanted = [
        logits_alone(backbone, adapter_of(backbone, "mood", seed), text) for seed in range(num_versions)
    ]
    first = last = 1  # versions that were acknowledged, and that were sent
    is_over = threading.Event()

    def asks(url: str) -> int:
        num_answers = 0
        while not is_over.is_set():
            with httpx.Client(base_url=url, timeout=60) as http:  # a new connection: of either front
                for _ in range(5):
                    least = first
                    answer = http.post("/v1/predict", json={"task": "mood", "inputs": [text], "raw": True})
                    assert answer.status_code == 200, answer.text
                    version = answer.json()["version"]
                    assert least <= version <= last
                    assert_close(answer.json()["predictions"][0]["logits"], wanted[version - 1])
                    num_answers += 1
        return num_answers

    with fronts(backbone_folder, tmp_path / "store", TRUNKLINE_DTYPE="float32") as world:
        assert push(world.http, "mood", files[0]).status_code == 201
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(asks, str(world.http.base_url)) for _ in range(4)]
            try:
                for number, data in enumerate(files[1:], 2):
                    last = number
                    assert push(world.http, "mood", data).json()["version"] == number
                    first = number
                    time.sleep(0.05)
            finally:
                is_over.set()
            assert all(one.result(60) >= num_versions for one in asking)
        assert world.http.delete("/v1/tasks/mood").status_code == 204
        assert world.http.post("/v1/predict", json={"task": "mood", "inputs": text}).status_code == 404


def test_sigterm_finishes_what_was_accepted_through_fronts(
    backbone_folder: Path, backbone: Backbone, tmp_path: Path
) -> None:
    token = {"TRUNKLINE_TOKEN": "a-secret-token", "TRUNKLINE_ROOT_PATH": "/text"}
    store = tmp_path / "store"
    with running(backbone_folder, store, {"TRUNKLINE_WORKERS": "2", **token}) as server:
        assert server.http.post("/text/v1/predict", json=ASK).status_code == 401
        server.http.headers["Authorization"] = "Bearer a-secret-token"
        assert push(server.http, "mood", file_of(backbone, "mood")).status_code == 201
        assert server.http.post("/text/v1/predict", json=ASK).status_code == 200
        inputs = ["w1 w2 supersecretword", *[" ".join(["w1 w2"] * 30)] * 240]
        bulk, large = {"task": "mood", "inputs": inputs}, {"task": "mood", "inputs": inputs * 10}
        with ThreadPoolExecutor(12) as pool:
            jobs = [pool.submit(server.http.post, "/v1/predict", json=bulk) for _ in range(10)]
            jobs += [pool.submit(server.http.post, "/v1/predict", json=large) for _ in range(2)]
            wait_for(lambda: _metric(server.http, "trunkline_open_requests") == 12)
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: server.http.get("/ready").status_code == 503)
            refused = server.http.post("/v1/predict", json=ASK)
            assert (refused.status_code, refused.json()["code"]) == (503, "draining")
            assert refused.headers["retry-after"] == "1"
            assert [job.result(60).status_code for job in jobs] == [200] * 12
        assert server.process.wait(30) == 0
        pids, log = front_pids(server), server.log.read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert "supersecretword" not in log
    assert "a-secret-token" not in log
    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())


def test_a_front_that_dies_is_started_again_and_the_device_process_takes_all_with_it(
    backbone_folder: Path, backbone: Backbone, tmp_path: Path
) -> None:
    with fronts(backbone_folder, tmp_path / "store") as world:
        assert push(world.http, "mood", file_of(backbone, "mood")).status_code == 201
        before = front_pids(world.process)
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: len(front_pids(world.process)) == 3)
        wait_for(lambda: _past(world, "trunkline_fronts") == 2)
        assert _past(world, "trunkline_front_restarts_total") == 1
        told_of = [json.loads(line) for line in world.process.log.read_text().splitlines()]
        (ended,) = [one for one in told_of if one["message"].startswith("a front process ended")]
        assert ended["status"] == -signal.SIGKILL
        calls = _past(world, "trunkline_front_calls_total")
        for _ in range(20):  # new connections: some are of the new one
            with httpx.Client(base_url=world.http.base_url, timeout=60) as http:
                assert http.post("/v1/predict", json=ASK).status_code == 200
        assert _past(world, "trunkline_front_calls_total") == calls + 20
        alive = front_pids(world.process)[1:]
        assert world.process.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_for(lambda: not any(map(_is_alive, alive)), 30)
        assert world.process.log.read_text().count("the device process has ended") == 2


def _past(world: World, name: str) -> float:
    return _metric(world.past, name)


def _is_alive(pid: int) -> bool:
    """Whether it runs: nobody waits for a child whose parent was killed, in a container without an init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_backbone_that_fails_ends_fronts_and_all_with_one(backbone_folder: Path, tmp_path: Path) -> None:
    import shutil

    from tests.folders import set_weights

    folder = shutil.copytree(backbone_folder, tmp_path / "lighter")
    set_weights(folder, lambda weights: dict(sorted(weights.items())[1:]))
    server = Process(folder, tmp_path / "store", {"TRUNKLINE_WORKERS": "1"})
    try:
        assert server.process.wait(90) == 1
        assert not any(map(_is_alive, front_pids(server)))
    finally:
        server.process.kill()


def test_a_signal_while_it_loads_leaves_nothing_behind(backbone_folder: Path, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = {"TRUNKLINE_WORKERS": "1", "TMPDIR": folder}
        server = Process(backbone_folder, tmp_path / "store", given)
        try:
            wait_for(lambda: "a front process serves" in server.log.read_text())
            assert server.stop() == 0
            wait_for(lambda: not any(map(_is_alive, front_pids(server))))
            assert not list(Path(folder).glob("trunkline-*"))
        finally:
            server.process.kill()


def test_a_folder_for_the_socket_with_a_long_path_is_refused(backbone_folder: Path, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    server = Process(backbone_folder, tmp_path / "store", {"TRUNKLINE_WORKERS": "1", "TMPDIR": str(long)})
    try:
        assert server.process.wait(90) == 2
        assert "set TMPDIR to a short path" in server.log.read_text()
    finally:
        server.process.kill()
