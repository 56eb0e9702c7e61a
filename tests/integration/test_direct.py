"""Predictions past the framework's stack: the same status, headers and bytes as through it, always."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api import direct
from service.api.direct import Direct
from service.settings import Settings
from tests.integration.oddities import ASK, BODIES, JSON, RAW, REQUEST, told
from tests.integration.world import Live, push


@pytest.fixture(scope="module")
def server(shared: Live) -> Iterator[Live]:
    with httpx.Client(base_url=shared.url, timeout=60, headers={"X-Request-ID": "same"}) as http:
        kept, shared.http = shared.http, http
        yield shared
        shared.http = kept


def both(http: httpx.Client, method: str = "POST", url: str = "/v1/predict", **sent: Any) -> httpx.Response:
    """The answer of the short way, after comparing it with that of the long one."""
    short = http.request(method, url, **sent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "_is_prediction", lambda _: False)
        long = http.request(method, url, **sent)
    assert told(short) == told(long)
    return short


def test_the_short_way_is_taken(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing here would compare two ways."""

    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fastapi.routing.APIRouter.__call__", fail)
    assert server.http.post("/v1/predict", json=ASK).status_code == 200
    monkeypatch.setattr(direct, "_is_prediction", lambda _: False)
    assert server.http.post("/v1/predict", json=ASK).status_code == 500


@pytest.mark.parametrize(("status", "body"), BODIES, ids=lambda value: json.dumps(value)[:40])
def test_bodies_of_every_kind_are_answered_alike(server: Live, status: int, body: Any) -> None:
    assert both(server.http, content=json.dumps(body).encode(), headers=JSON).status_code == status


@pytest.mark.parametrize(
    ("status", "sent"), RAW, ids=[f"{row}-{status}" for row, (status, _) in enumerate(RAW)]
)
def test_bytes_of_every_kind_are_answered_alike(server: Live, status: int, sent: dict[str, Any]) -> None:
    assert both(server.http, **sent).status_code == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_and_paths_are_answered_alike(server: Live, method: str) -> None:
    assert both(server.http, method, json=ASK).status_code == 405
    for url in ("/v1/predict/", "//v1/predict", "/V1/predict", "/v1/predict%2F", "/v1/predic"):
        assert both(server.http, "POST", url, json=ASK).status_code == 404
    assert both(server.http, "POST", "/v1/predict?", json=ASK).status_code == 200
    assert both(server.http, "POST", "/v1/%70redict", json=ASK).status_code == 200


@given(request=REQUEST, cut=st.none() | st.integers(0, 60))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_is_answered_alike(server: Live, request: dict[str, Any], cut: int | None) -> None:
    body = json.dumps(request).encode()
    answered = both(server.http, content=body if cut is None else body[:cut], headers=JSON)
    assert answered.status_code < 500


def test_a_service_that_cannot_answer_says_so_alike(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    for phase, code in (("starting", "not_ready"), ("draining", "draining"), ("failed", "not_ready")):
        monkeypatch.setattr(server.service, "phase", phase)
        refused = both(server.http, json=ASK)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            503,
            code,
            "1",
        )
    monkeypatch.undo()
    monkeypatch.setattr(type(server.service), "parts", property(lambda _: 1 / 0))
    broken = both(server.http, json=ASK)
    assert (broken.status_code, broken.json()["code"]) == (500, "internal")


def test_both_ways_count_as_the_same_route(server: Live) -> None:
    def count() -> int:
        wanted = 'trunkline_requests_total{route="/v1/predict",status="200"} '
        (line,) = [line for line in server.http.get("/metrics").text.splitlines() if line.startswith(wanted)]
        return int(float(line.removeprefix(wanted)))

    before = count()
    both(server.http, json=ASK)
    assert count() == before + 2


def test_behind_a_proxy_the_path_is_that_of_the_route(
    backbone_folder: Any, tmp_path: Any, files: dict[str, bytes]
) -> None:
    settings = Settings(
        backbone=str(backbone_folder),
        store=tmp_path / "store",
        device="cpu",
        root_path="/text",
        token="a-secret-token",
    )
    with Live(settings) as live:
        live.http.headers["X-Request-ID"] = "same"
        assert push(live.http, "mood", files["mood"]).status_code == 201
        for url, status in (
            ("/v1/predict", 200),
            ("/text/v1/predict", 200),
            ("/text/text/v1/predict", 404),
            ("/textv1/predict", 404),
        ):
            assert both(live.http, url=url, json=ASK).status_code == status
        with httpx.Client(base_url=live.url, headers={"X-Request-ID": "same"}) as stranger:
            assert both(stranger, json=ASK).status_code == 401


def test_what_is_no_request_is_handed_on() -> None:
    import asyncio

    seen: list[str] = []

    async def app(scope: Any, *_: Any) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    for scope in ({"type": "lifespan"}, {"type": "websocket", "path": "/v1/predict"}):
        asyncio.run(Direct(app)(scope, nothing, nothing))
    assert seen == ["lifespan", "websocket"]
