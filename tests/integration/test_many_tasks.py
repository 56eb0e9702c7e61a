"""No request looks at all tasks: every route is called on a service that counts what is read of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from adapters_store import AdapterStore
from service.api.schemas import TaskInfo
from service.residency import names
from service.residency.cache import Resident
from tests.integration.world import Live, file_of, tiny

NUM_OTHERS = 3_000
MAX_READ = 700  # entries of all directories together, for one request


class Counted(dict[str, Any]):
    """Tells how many entries were read by walking through it; looking one up is free."""

    num_read = 0

    def _walk(self, entries: Any) -> Iterator[Any]:
        for entry in entries:
            self.num_read += 1
            yield entry

    def __iter__(self) -> Iterator[str]:
        return self._walk(super().__iter__())

    def values(self) -> Any:
        return self._walk(super().values())

    def items(self) -> Any:
        return self._walk(super().items())

    def keys(self) -> Any:
        return self._walk(super().keys())


class CountedList(list[str]):
    num_read = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.num_read += len(found) if isinstance(place, slice) else 1
        return found

    def __iter__(self) -> Iterator[str]:
        self.num_read += len(self)
        return super().__iter__()


@pytest.fixture
def crowded(live: Live, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A few real tasks among thousands that only the directories know."""
    monkeypatch.setattr(names, "MAX_SCANNED", 300)
    for task in ("mood", "topic"):
        assert live.push(task, files[task]).status_code == 201
    catalog = live.service.parts.catalog
    state, resident = catalog.task("mood"), catalog.cache.get("mood", 1)
    assert resident is not None
    for number in range(NUM_OTHERS):
        name = f"other-{number:05}"
        catalog.cache.add(Resident(name, 1, resident.digest, resident.slot, resident.card))
        catalog._mirror(replace(state, task=name))
    catalog._states = Counted(catalog._states)
    catalog.cache._tasks = Counted(catalog.cache._tasks)
    catalog.cache._names._sorted = CountedList(catalog.cache._names._sorted)
    catalog._store._newest = Counted(catalog._store._newest)

    def scan(_: AdapterStore) -> None:
        raise AssertionError("the logs of all tasks were read")

    monkeypatch.setattr(AdapterStore, "_scan", scan)
    yield live
    catalog._states = {name: state for name, state in dict(catalog._states).items() if "other" not in name}


def num_read(live: Live) -> int:
    """Entries read since the last call."""
    catalog = live.service.parts.catalog
    counted: list[Any] = [
        catalog._states,
        catalog.cache._tasks,
        catalog.cache._names._sorted,
        catalog._store._newest,
    ]
    found = sum(int(one.num_read) for one in counted)
    for one in counted:
        one.num_read = 0
    return found


def routes_of(live: Live) -> set[tuple[str, str]]:
    paths = live.http.get("/openapi.json").json()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def test_no_request_reads_all_tasks(crowded: Live) -> None:
    backbone = tiny()
    uploads = {seed: file_of(backbone, "mood", seed) for seed in (1, 2)}
    binary = {"Content-Type": "application/octet-stream"}
    ask = {"inputs": ["w1 w2"]}
    task, version = "/v1/tasks/{task}", "/v1/tasks/{task}/versions/{version}"
    new = "/v1/tasks/{task}/versions"
    calls: list[tuple[str, str, int, dict[str, Any]]] = [
        ("POST", "/v1/predict", 200, {"json": ask | {"task": "mood"}}),
        ("POST", "/v1/predict", 200, {"json": ask | {"task": "mood@production"}}),
        ("POST", "/v1/predict", 200, {"json": ask | {"tasks": ["mood", "nobody", "other-00017"]}}),
        ("POST", "/v1/predict", 404, {"json": ask | {"task": "other-0001"}}),
        ("POST", "/v1/predict", 404, {"json": ask | {"task": "mood@canary"}}),
        ("POST", "/v1/predict", 404, {"json": ask | {"task": "mood@9"}}),
        ("GET", "/v1/tasks", 200, {}),
        ("GET", "/v1/tasks", 200, {"params": {"q": "mood"}}),
        ("GET", "/v1/tasks", 200, {"params": {"q": "no such part", "after": "n"}}),
        ("GET", task, 200, {}),
        ("GET", version, 200, {}),
        ("POST", new, 201, {"content": uploads[1], "headers": binary}),
        ("POST", new, 200, {"content": uploads[1], "headers": binary}),
        ("POST", new, 201, {"content": uploads[2], "headers": binary}),
        ("PUT", f"{task}/aliases/{{alias}}", 200, {"json": {"version": 2}}),
        ("POST", f"{task}/rollback", 200, {}),
        ("DELETE", version, 204, {}),
        ("DELETE", task, 204, {}),
        ("DELETE", task, 404, {}),
        ("GET", task, 404, {}),
        ("POST", f"{task}/rollback", 404, {}),
        ("GET", "/v1/info", 200, {}),
        ("GET", "/v1/limits", 200, {}),
        ("GET", "/live", 200, {}),
        ("GET", "/ready", 200, {}),
        ("GET", "/metrics", 200, {}),
    ]
    assert {call[:2] for call in calls} == routes_of(crowded)
    num_read(crowded)
    for method, path, status, sent in calls:
        url = path.format(task="mood", version=1, alias="canary")
        answered = crowded.http.request(method, url, **sent)
        assert answered.status_code == status, (method, url, answered.text[:200])
        assert (read := num_read(crowded)) <= MAX_READ, (method, url, read)


def test_a_list_of_tasks_is_read_page_by_page(crowded: Live) -> None:
    first = crowded.http.get("/v1/tasks").json()
    assert (len(first["tasks"]), first["next"]) == (100, first["tasks"][-1]["task"])
    assert TaskInfo(**first["tasks"][0]) == TaskInfo(**crowded.http.get("/v1/tasks/mood").json())
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = crowded.http.get("/v1/tasks", params={"after": after, "limit": 700}).json()
        found += [task["task"] for task in page["tasks"]]
        after = page["next"]
    assert found == ["mood", *(f"other-{number:05}" for number in range(NUM_OTHERS)), "topic"]


def test_a_search_takes_a_part_of_the_name_and_ends(crowded: Live) -> None:
    found: list[str] = []
    after, num_pages = "", 0
    while after is not None:
        page = crowded.http.get("/v1/tasks", params={"after": after, "q": " OTHER-0001 "}).json()
        found += [task["task"] for task in page["tasks"]]
        after, num_pages = page["next"], num_pages + 1
    assert found == [f"other-{number:05}" for number in range(10, 20)]
    assert num_pages == 1 + NUM_OTHERS // 300  # each looked at its share of names and no more


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"limit": "0"}, "query.limit: got '0', allowed: at least 1"),
        ({"limit": "1001"}, "query.limit: got '1001', allowed: at most 1000"),
        ({"limit": "all"}, "query.limit: got 'all', allowed: a whole number"),
        ({"q": "x" * 65}, "allowed: at most 64 characters"),
        ({"after": "x" * 65}, "allowed: at most 64 characters"),
    ],
)
def test_a_page_that_cannot_be_is_refused(shared: Live, params: dict[str, str], told: str) -> None:
    refused = shared.http.get("/v1/tasks", params=params)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
    assert told in refused.json()["detail"]


def test_tasks_with_many_versions_share_fewer_pages(
    live: Live, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.residency import catalog

    monkeypatch.setattr(catalog, "MAX_LISTED_VERSIONS", 2)
    backbone = tiny()
    for seed in (0, 1, 2):
        assert live.push("mood", file_of(backbone, "mood", seed)).status_code == 201
    for task in ("same", "topic"):
        assert live.push(task, files[task]).status_code == 201
    first = live.http.get("/v1/tasks").json()
    assert ([task["task"] for task in first["tasks"]], first["next"]) == (["mood"], "mood")
    second = live.http.get("/v1/tasks", params={"after": "mood"}).json()
    assert ([task["task"] for task in second["tasks"]], second["next"]) == (["same", "topic"], None)
