"""Under load: answers equal solo answers, alias moves harm nobody, bulk jobs do not starve single calls."""

from __future__ import annotations

import random
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from modeling import Backbone
from service.settings import Settings
from tests.integration.world import PAIR_TASKS, SPECS, TEXTS, Live, assert_close, file_of, wait_for

LONG = " ".join(f"w{i % 80}" for i in range(60))


def _inputs(task: str, rng: random.Random, count: int) -> list[Any]:
    texts = rng.choices(TEXTS, k=count)
    return [{"text": text, "text_pair": TEXTS[0]} for text in texts] if task in PAIR_TASKS else [*texts]


def test_a_storm_of_mixed_tasks_gives_every_answer_as_alone(shared: Live) -> None:
    rng = random.Random(1)
    calls = [(task, _inputs(task, rng, rng.randint(1, 9))) for task in rng.choices(list(SPECS), k=160)]
    alone: dict[tuple[str, str], Any] = {}
    for task in SPECS:
        items = _inputs(task, rng, 0) or [*({str(i): i for _, inputs in calls for i in inputs}).values()]
        kept = [item for item in items if isinstance(item, dict) == (task in PAIR_TASKS)]
        for item in kept:
            alone[task, str(item)] = shared.predict(task, item, raw=True)["predictions"][0]

    def ask(call: tuple[str, list[Any]]) -> tuple[tuple[str, list[Any]], Any]:
        return call, shared.predict(*call, raw=True)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, calls))
    for (task, items), body in answers:
        assert body["task"] == task
        for item, prediction in zip(items, body["predictions"], strict=True):
            wanted = alone[task, str(item)]
            assert_close(prediction["logits"], wanted["logits"])
            assert prediction["tokens"] == wanted["tokens"]
            assert set(prediction["scores"]) == set(wanted["scores"])


def test_an_alias_moved_under_load_fails_nothing_and_mixes_nothing(live: Live, backbone: Backbone) -> None:
    for seed in range(3):
        live.push("mood", file_of(backbone, "mood", seed))
    items = TEXTS[:5]
    wanted = {
        version: [p["logits"] for p in live.predict(f"mood@{version}", items, raw=True)["predictions"]]
        for version in (1, 2, 3)
    }
    stop = threading.Event()
    seen: set[int] = set()
    failures: list[str] = []

    def client() -> None:
        while not stop.is_set():
            response = live.ask("mood", items, raw=True)
            if response.status_code != 200:
                failures.append(response.text)
                return
            body = response.json()
            got = [p["logits"] for p in body["predictions"]]
            if not np.allclose(got, wanted[body["version"]], rtol=1e-5, atol=1e-5):
                failures.append(f"mixed answer under version {body['version']}")
                return
            seen.add(body["version"])

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for move in range(90):
        version = 1 + move % 3
        assert (
            live.http.put("/v1/tasks/mood/aliases/production", json={"version": version}).status_code == 200
        )
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert seen == {1, 2, 3}


def test_uploads_and_deletes_under_load_fail_nothing(live: Live, backbone: Backbone) -> None:
    live.push("mood", file_of(backbone, "mood"))
    live.push("topic", file_of(backbone, "topic"))
    wanted = [p["logits"] for p in live.predict("mood", TEXTS[:4], raw=True)["predictions"]]
    stop = threading.Event()
    failures: list[str] = []

    def client() -> None:
        while not stop.is_set():
            body = live.ask(["mood", "topic"], TEXTS[:4], raw=True).json()
            first, second = body["results"]
            got = [p["logits"] for p in first["predictions"]]
            if not np.allclose(got, wanted, rtol=1e-5, atol=1e-5):
                failures.append("mood changed")
            if "error" not in second and any("error" in p for p in second["predictions"]):
                failures.append(str(second))

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    files = [file_of(backbone, "topic", seed) for seed in range(3)]
    for turn in range(24):
        assert live.push("topic", files[turn % 3]).status_code in (200, 201)
        if turn % 4 == 3:
            assert live.http.delete("/v1/tasks/topic").status_code == 204
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    wait_for(lambda: live.http.get("/v1/info").json()["adapters"]["resident"] == 1)


def test_a_delete_during_a_call_lets_the_call_finish(live: Live, backbone: Backbone) -> None:
    live.push("mood", file_of(backbone, "mood"))
    wanted = live.predict("mood", LONG, raw=True)["predictions"][0]["logits"]
    with ThreadPoolExecutor(1) as pool:
        bulk = pool.submit(live.predict, "mood", [LONG] * 3000, raw=True)
        wait_for(lambda: live.service.parts.engine.scheduler.waiting_rows > 500)
        assert live.http.delete("/v1/tasks/mood").status_code == 204
        assert live.ask("mood", "w1").status_code == 404
        assert live.http.get("/v1/info").json()["adapters"]["resident"] == 1  # the call still uses it
        found = bulk.result(60)["predictions"]
    assert all(np.allclose(p["logits"], wanted, rtol=1e-5, atol=1e-5) for p in found)
    wait_for(lambda: live.http.get("/v1/info").json()["adapters"]["resident"] == 0)


def test_a_bulk_job_does_not_hold_up_single_calls(live: Live, backbone: Backbone) -> None:
    live.push("mood", file_of(backbone, "mood"))
    live.push("topic", file_of(backbone, "topic"))
    with ThreadPoolExecutor(1) as pool:
        started_s = time.monotonic()
        bulk = pool.submit(live.predict, "mood", [LONG] * 3_000)
        wait_for(lambda: live.service.parts.engine.scheduler.waiting_rows > 200)
        waits_s: list[float] = []
        while not bulk.done() and len(waits_s) < 50:
            began_s = time.monotonic()
            live.predict("topic", TEXTS[1])
            waits_s.append(time.monotonic() - began_s)
        assert len(bulk.result(60)["predictions"]) == 3_000
        bulk_s = time.monotonic() - started_s
    assert len(waits_s) >= 5
    assert statistics.median(waits_s) < bulk_s / 5


def test_a_full_queue_answers_429_with_a_time_for_every_shape(
    backbone_folder: Path, backbone: Backbone, tmp_path: Path
) -> None:
    settings = Settings(
        backbone=str(backbone_folder), store=tmp_path / "s", device="cpu", max_waiting_tokens=2000
    )
    with Live(settings) as live:
        live.push("mood", file_of(backbone, "mood"))
        gate = threading.Event()
        held = live.service.parts.engine.call(lambda model: gate.wait(30))
        with ThreadPoolExecutor(8) as pool:
            bulk = [pool.submit(live.predict, "mood", [LONG] * 200) for _ in range(8)]
            wait_for(lambda: live.service.parts.engine.scheduler.charged_tokens == 2000)
            for inputs in ("w1", ["w1"], ["w1"] * 50):
                response = live.ask("mood", inputs)
                assert response.status_code == 429
                assert response.json()["code"] == "overloaded"
                assert 1 <= int(response.headers["retry-after"]) <= 60
            gate.set()
            held.result(30)
            assert all(len(job.result(60)["predictions"]) == 200 for job in bulk)
        assert live.predict("mood", "w1")["version"] == 1


def test_work_for_a_client_that_left_is_dropped(live: Live, backbone: Backbone) -> None:
    live.push("mood", file_of(backbone, "mood"))
    gate = threading.Event()
    held = live.service.parts.engine.call(lambda model: gate.wait(30))
    body = b'{"task": "mood", "inputs": [' + b",".join([b'"w1 w2"'] * 500) + b"]}"
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    url = httpx.URL(live.url)
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        wait_for(lambda: live.service.parts.engine.scheduler.waiting_rows == 500)
    wait_for(lambda: live.service.parts.engine.scheduler.waiting_rows == 0)
    wait_for(lambda: "trunkline_cancelled_total 1.0" in live.http.get("/metrics").text)
    assert live.service.parts.catalog.cache.num_leases == 0
    gate.set()
    held.result(30)
    assert live.predict("mood", "w1")["version"] == 1


@pytest.mark.parametrize("inputs", ["w1", ["w1", "w2"]])
def test_non_finite_logits_are_errors_and_never_numbers(
    live: Live, backbone: Backbone, inputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.push("mood", file_of(backbone, "mood"))
    model = live.service.parts.model
    run = model.run

    def broken(*arguments: Any) -> Any:
        logits = run(*arguments)
        logits[0] = np.full_like(logits[0], np.nan)
        return logits

    monkeypatch.setattr(model, "run", broken)
    response = live.ask("mood", inputs)
    assert "NaN" not in response.text
    if isinstance(inputs, str):
        assert (response.status_code, response.json()["code"]) == (422, "non_finite")
    else:
        first, second = response.json()["predictions"]
        assert first["error"]["code"] == "non_finite"
        assert "label" in second
    assert "trunkline_non_finite_total 1.0" in live.http.get("/metrics").text


def test_a_row_that_breaks_the_pass_fails_alone(
    live: Live, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.push("mood", file_of(backbone, "mood"))
    model = live.service.parts.model
    run = model.run

    def broken(encoded: Any, *rest: Any) -> Any:
        if any(len(one) == 9 for one in encoded):
            raise RuntimeError("w1 w2 w3 w4 w5 w6 w7")
        return run(encoded, *rest)

    wanted = live.predict("mood", TEXTS[:9])["predictions"]
    monkeypatch.setattr(model, "run", broken)
    poison = "w1 w2 w3 w4 w5 w6 w7"
    kept = [text for text in TEXTS[:9] if len(text.split()) != 7]
    found = live.predict("mood", [*kept[:4], poison, *kept[4:]])["predictions"]
    assert found.pop(4)["error"]["code"] == "internal"
    good = [p for text, p in zip(TEXTS[:9], wanted, strict=True) if len(text.split()) != 7]
    assert [p["label"] for p in found] == [p["label"] for p in good]
    response = live.ask("mood", poison)
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert poison not in response.text
