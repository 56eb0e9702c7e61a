"""A service on a store that it may read and not write, and on a folder that it can use for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters_store import AdapterStore
from modeling import Backbone
from tests.integration.world import TEXTS, file_of, push, running
from tests.rights import ANYBODY

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def snapshot(tmp_path: Path, backbone: Backbone) -> Iterator[Path]:
    """A store of two versions in which nobody but root may write."""
    store = AdapterStore(tmp_path / "store")
    store.publish("mood", file_of(backbone, "mood"))
    store.publish("mood", file_of(backbone, "mood", 1))
    folders = [path for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    (tmp_path / "store" / "lock").unlink()  # a copy may lack what nobody reads
    yield tmp_path / "store"
    for path in folders:
        path.chmod(0o755)


def test_what_it_holds_is_served_and_every_change_refused_with_the_reason(
    snapshot: Path, backbone_folder: Path, backbone: Backbone
) -> None:
    before = sorted(snapshot.rglob("*"))
    with running(backbone_folder, snapshot, before=ANYBODY) as server:
        http = server.http
        answer = http.post("/v1/predict", json={"tasks": ["mood", "mood@1"], "inputs": TEXTS[:2]}).json()
        assert [result["version"] for result in answer["results"]] == [2, 1]
        ready = http.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert ready.json()["reason"].startswith("the store is read-only: Permission denied")
        assert http.get("/v1/limits").json()["store_read_only"] is True
        assert http.get("/v1/info").json()["store_read_only"].startswith("Permission denied")
        for refused in (
            push(http, "mood", file_of(backbone, "mood", 2)),
            push(http, "mood", b"no adapter at all"),
            http.put("/v1/tasks/mood/aliases/canary", json={"version": 1}),
            http.post("/v1/tasks/mood/rollback"),
            http.delete("/v1/tasks/mood/versions/1"),
            http.delete("/v1/tasks/mood"),
        ):
            assert (refused.status_code, refused.json()["code"]) == (403, "store_read_only")
            assert f"{snapshot} is read-only (Permission denied" in refused.json()["detail"]
        (task,) = http.get("/v1/tasks").json()["tasks"]
        assert (task["production"], [v["state"] for v in task["versions"]]) == (2, ["resident"] * 2)
        assert server.stop() == 0
    warned = [
        line for line in map(json.loads, server.log.read_text().splitlines()) if line["level"] == "warning"
    ]
    assert [line["message"].partition(":")[0] for line in warned] == ["the store is read-only"]
    assert sorted(snapshot.rglob("*")) == before


@pytest.mark.parametrize("program", ["service", "trunkline"])
@pytest.mark.parametrize("where", ["closed", "closed/below", "file"])
def test_a_folder_that_is_no_store_and_cannot_be_one_is_a_sentence_at_the_start(
    tmp_path: Path, backbone_folder: Path, program: str, where: str
) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    (tmp_path / "file").write_bytes(b"")
    options = ("serve", "--store", str(tmp_path / where), "--backbone", str(backbone_folder), "--port", "0")
    done = subprocess.run(
        [*ANYBODY, sys.executable, "-m", program, *options],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"error: the store {tmp_path / where} cannot be used: ")
    assert "--store" in told
