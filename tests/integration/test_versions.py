"""Versions and aliases: promote, roll back, delete, and changes under a condition."""

from __future__ import annotations

from typing import Any

import pytest

from modeling import Backbone
from tests.integration.world import TEXTS, Live, file_of


@pytest.fixture
def three(live: Live, backbone: Backbone) -> Live:
    """A server with mood@1, @2 and @3; production is 3, previous is 2."""
    for seed in range(3):
        assert live.push("mood", file_of(backbone, "mood", seed)).json()["version"] == seed + 1
    return live


def _put(live: Live, alias: str, version: Any, **headers: str) -> Any:
    return live.http.put(f"/v1/tasks/mood/aliases/{alias}", json={"version": version}, headers=headers)


def _served(live: Live, reference: str = "mood") -> int:
    version: int = live.predict(reference, TEXTS[0])["version"]
    return version


def test_promote_and_pin(three: Live) -> None:
    assert _served(three) == 3
    body = _put(three, "production", 1).json()
    assert (body["production"], body["aliases"]) == (1, {"production": 1, "previous": 3})
    assert [_served(three), _served(three, "mood@previous"), _served(three, "mood@2")] == [1, 3, 2]


def test_rollback_swaps_and_swaps_back(three: Live) -> None:
    assert three.http.post("/v1/tasks/mood/rollback").json()["production"] == 2
    assert _served(three) == 2
    assert three.http.post("/v1/tasks/mood/rollback").json()["production"] == 3
    assert _served(three) == 3


def test_nothing_to_roll_back_to(live: Live, backbone: Backbone) -> None:
    live.push("mood", file_of(backbone, "mood"))
    response = live.http.post("/v1/tasks/mood/rollback")
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert live.http.post("/v1/tasks/nobody/rollback").status_code == 404


def test_if_match_is_honoured(three: Live) -> None:
    response = three.http.get("/v1/tasks/mood")
    etag = response.headers["etag"]
    assert etag == f'"{response.json()["revision"]}"'
    moved = _put(three, "canary", 1, **{"If-Match": etag})
    assert moved.status_code == 200
    assert moved.headers["etag"] != etag
    stale = _put(three, "canary", 2, **{"If-Match": etag})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert _served(three, "mood@canary") == 1
    assert _put(three, "canary", 2, **{"If-Match": "*"}).status_code == 200
    assert _put(three, "canary", 2, **{"If-Match": "nonsense"}).status_code == 400


@pytest.mark.parametrize(
    ("alias", "version", "status"),
    [
        ("canary", 9, 404),
        ("canary", 0, 422),
        ("canary", "1", 422),
        ("canary", None, 422),
        ("Canary", 1, 422),
        ("7", 1, 422),
    ],
)
def test_alias_moves_that_are_refused(three: Live, alias: str, version: Any, status: int) -> None:
    response = _put(three, alias, version)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_a_body_that_is_not_json_is_malformed(three: Live) -> None:
    path = "/v1/tasks/mood/aliases/canary"
    response = three.http.put(path, content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 400


def test_deleting_a_version(three: Live) -> None:
    conflict = three.http.delete("/v1/tasks/mood/versions/3")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    assert three.http.delete("/v1/tasks/mood/versions/2").status_code == 204
    assert three.ask("mood@2", "w1").status_code == 404
    assert three.http.get("/v1/tasks/mood/versions/2").status_code == 404
    assert three.http.delete("/v1/tasks/mood/versions/2").status_code == 404
    assert three.http.get("/v1/tasks/mood").json()["aliases"] == {"production": 3}
    assert three.http.get("/v1/info").json()["adapters"]["resident"] == 2


def test_deleting_a_task_frees_everything_and_its_numbers_stay_used(three: Live, backbone: Backbone) -> None:
    assert three.http.delete("/v1/tasks/mood").status_code == 204
    for path in ("/v1/tasks/mood", "/v1/tasks/mood/versions/1"):
        assert three.http.get(path).status_code == 404
    assert three.ask("mood", "w1").status_code == 404
    assert three.http.delete("/v1/tasks/mood").status_code == 404
    assert three.http.get("/v1/info").json()["adapters"]["resident"] == 0
    assert three.push("mood", file_of(backbone, "mood")).json()["version"] == 4


def test_many_uploads_and_deletes_leave_nothing_behind(live: Live, backbone: Backbone) -> None:
    live.push("topic", file_of(backbone, "topic"))
    data = [file_of(backbone, "mood", seed) for seed in range(6)]
    sizes = []
    for _ in range(4):
        for one in data:
            assert live.push("mood", one).status_code == 201
        live.predict("mood", "w1")
        assert live.http.delete("/v1/tasks/mood").status_code == 204
        sizes.append(live.http.get("/v1/info").json()["adapters"])
    assert [size["resident"] for size in sizes] == [1] * 4
    assert len({size["bytes"] for size in sizes}) == 1
    assert 'task="mood"' not in live.http.get("/metrics").text


def test_listing(three: Live, backbone: Backbone) -> None:
    three.push("topic", file_of(backbone, "topic"))
    listed = three.http.get("/v1/tasks").json()["tasks"]
    assert [task["task"] for task in listed] == ["mood", "topic"]
    assert [version["version"] for version in listed[0]["versions"]] == [1, 2, 3]
    version = three.http.get("/v1/tasks/topic/versions/1").json()
    assert version == listed[1]["versions"][0]
    assert (version["state"], version["method"], version["kind"]) == ("resident", "bitfit", "single_label")
    assert version["fields"] == ["text"]
    for path in ("/v1/tasks/nobody", "/v1/tasks/mood/versions/9"):
        assert three.http.get(path).status_code == 404
    assert three.http.get("/v1/tasks/mood/versions/x").status_code == 422
    assert three.http.get("/v1/tasks/Mood").status_code == 422
