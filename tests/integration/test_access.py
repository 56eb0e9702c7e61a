"""Access: with a token every route but four needs it; a walk over all routes proves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from service.api.auth import OPEN_PATHS
from service.settings import Settings
from tests.integration.world import Live

TOKEN = "a-token-for-tests"


@pytest.fixture(scope="module")
def guarded(backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    store = tmp_path_factory.mktemp("guarded") / "store"
    settings = Settings(backbone=str(backbone_folder), store=store, device="cpu", token=SecretStr(TOKEN))
    with Live(settings) as server:
        yield server


def _routes(live: Live) -> list[tuple[str, str]]:
    paths = live.http.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_every_route_is_closed_without_the_token(guarded: Live) -> None:
    routes = _routes(guarded)
    assert ("POST", "/v1/predict") in routes
    assert len(routes) >= 14
    with httpx.Client(base_url=guarded.url) as stranger:
        for method, path in [*routes, ("GET", "/nowhere"), ("PATCH", "/v1/tasks")]:
            url = path.format(task="mood", version="1", alias="canary")
            for headers in ({}, {"Authorization": "Bearer wrong-token"}):
                response = stranger.request(method, url, headers=headers)
                if path in OPEN_PATHS:
                    assert response.status_code == 200
                else:
                    assert response.status_code == 401, (method, path)
                    assert response.headers["www-authenticate"] == "Bearer"
                    assert response.json()["code"] == "unauthorized"


def test_the_documentation_is_open(guarded: Live) -> None:
    assert httpx.get(f"{guarded.url}/docs").status_code == 200
    document = httpx.get(f"{guarded.url}/openapi.json").json()
    assert document["info"]["title"] == "Trunkline"
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    options = {"top_k", "raw", "truncate", "generate", "max_new_tokens"}
    assert {"task", "tasks", "inputs", *options} == set(body["properties"])


def test_with_the_token_everything_is_open(guarded: Live) -> None:
    assert guarded.http.get("/v1/tasks").json() == {"tasks": [], "next": None}
    assert guarded.http.get("/metrics").status_code == 200


def test_without_a_token_other_sites_are_refused(shared: Live) -> None:
    evil = {"Origin": "http://evil.example.org"}
    response = shared.http.post("/v1/tasks/mood/rollback", headers=evil)
    assert (response.status_code, response.json()["code"]) == (403, "cross_site")
    assert shared.http.get("/v1/tasks", headers={"Host": "evil.example.org"}).status_code == 403
    assert shared.http.get("/v1/tasks", headers={"Origin": shared.url}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/tasks/", 404, "not_found"),
        ("GET", "/v1/tasks/../../etc/passwd", 404, "not_found"),
        ("PATCH", "/v1/tasks", 405, "method_not_allowed"),
    ],
)
def test_what_the_router_refuses_is_a_problem_too(
    shared: Live, method: str, path: str, status: int, code: str
) -> None:
    response = shared.http.request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
