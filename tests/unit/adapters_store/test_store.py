"""The store as its callers see it: versions, aliases, rollback, deletion, damage, handles and threads."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters_store import (
    AdapterStore,
    Conflict,
    Corrupt,
    InvalidName,
    NotFound,
    PreconditionFailed,
    StoreError,
    task_log,
)
from adapters_store.blobs import digest_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "some" / "store"


@pytest.fixture
def store(root: Path) -> AdapterStore:
    return AdapterStore(root)


def blobs(root: Path) -> set[str]:
    return {path.name for path in (root / "adapters").iterdir()}


def blob_name(data: bytes) -> str:
    return digest_of(data).replace(":", "-") + ".safetensors"


def commits(root: Path, task: str) -> list[Path]:
    return sorted((root / "tasks" / task).iterdir())


def test_an_empty_store(store: AdapterStore) -> None:
    assert store.tasks() == []
    with pytest.raises(NotFound, match="no task 'a'"):
        store.task("a")
    with pytest.raises(NotFound):
        store.resolve("a")


def test_publish_makes_a_version_in_production(store: AdapterStore, root: Path) -> None:
    published = store.publish("a", b"one")
    assert (published.version, published.created, published.digest) == (1, True, digest_of(b"one"))
    assert published.record.size_bytes == 3
    assert published.state == store.task("a")
    assert published.state.aliases == {"production": 1}
    assert published.state.revision == 1
    assert store.read("a", 1) == b"one"
    assert store.resolve("a") == store.resolve("a@1") == store.resolve("a@production") == published.record
    assert blobs(root) == {blob_name(b"one")}
    assert [path.name for path in commits(root, "a")] == ["0000000001.json"]
    assert json.loads(commits(root, "a")[0].read_bytes())["action"] == "publish 1"
    assert not list((root / "temporary").iterdir())


def test_the_next_version_takes_production_and_leaves_previous(store: AdapterStore) -> None:
    for data in (b"one", b"two", b"three"):
        store.publish("a", data)
    assert store.task("a").aliases == {"production": 3, "previous": 2}
    assert [record.version for record in store.task("a").versions] == [1, 2, 3]
    assert store.resolve("a@previous").version == 2


def test_publishing_without_an_alias_or_with_another_one(store: AdapterStore) -> None:
    store.publish("a", b"one", alias=None)
    assert store.task("a").aliases == {}
    with pytest.raises(NotFound, match="no alias 'production'; its aliases: none"):
        store.resolve("a")
    store.publish("a", b"two", alias="canary")
    assert store.task("a").aliases == {"canary": 2}


def test_the_same_bytes_again_are_the_same_version(store: AdapterStore, root: Path) -> None:
    first = store.publish("a", b"one")
    again = store.publish("a", b"one")
    assert (again.version, again.created, again.record) == (1, False, first.record)
    assert again.state.revision == 1
    assert len(commits(root, "a")) == 1


def test_the_same_bytes_of_an_older_version_move_the_alias_to_it(store: AdapterStore) -> None:
    store.publish("a", b"one")
    store.publish("a", b"two")
    again = store.publish("a", b"one")
    assert (again.version, again.created) == (1, False)
    assert again.state.aliases == {"production": 1, "previous": 2}
    assert store.publish("a", b"two", alias=None).state == again.state


def test_tasks_share_bytes_but_not_versions(store: AdapterStore, root: Path) -> None:
    store.publish("a", b"one")
    assert store.publish("b", b"one").created
    assert len(blobs(root)) == 1
    store.delete_task("a")
    assert store.read("b", 1) == b"one"
    store.delete_task("b")
    assert blobs(root) == set()


def test_set_alias_and_revisions(store: AdapterStore) -> None:
    store.publish("a", b"one")
    store.publish("a", b"two")
    state = store.set_alias("a", "canary", 1, expect_revision=2)
    assert (state.revision, state.aliases) == (3, {"production": 2, "previous": 1, "canary": 1})
    with pytest.raises(PreconditionFailed, match="at revision 3, not 2"):
        store.set_alias("a", "canary", 2, expect_revision=2)
    assert store.set_alias("a", "canary", 1, expect_revision=3) == state  # nothing to change, no commit
    assert store.set_alias("a", "production", 1).aliases == {"production": 1, "previous": 2, "canary": 1}


def test_set_alias_on_what_is_not_there(store: AdapterStore) -> None:
    with pytest.raises(NotFound, match="no task"):
        store.set_alias("a", "production", 1)
    store.publish("a", b"one")
    with pytest.raises(NotFound, match="no version 2; the newest live ones: 1"):
        store.set_alias("a", "production", 2)
    with pytest.raises(InvalidName):
        store.set_alias("a", "7", 1)


def test_rollback_swaps(store: AdapterStore) -> None:
    store.publish("a", b"one")
    with pytest.raises(Conflict, match="no previous version"):
        store.rollback("a")
    store.publish("a", b"two")
    assert store.rollback("a").aliases == {"production": 1, "previous": 2}
    assert store.rollback("a").aliases == {"production": 2, "previous": 1}
    with pytest.raises(NotFound):
        store.rollback("b")


def test_rollback_without_production_takes_previous(store: AdapterStore) -> None:
    store.publish("a", b"one", alias="previous")
    assert store.rollback("a").aliases == {"production": 1}


def test_rollback_to_the_version_in_production_changes_nothing(store: AdapterStore) -> None:
    store.publish("a", b"one")
    state = store.set_alias("a", "previous", 1)
    assert store.rollback("a") == state


def test_deleting_a_version_frees_its_bytes_and_its_aliases(store: AdapterStore, root: Path) -> None:
    store.publish("a", b"one")
    store.publish("a", b"two")
    store.delete_version("a", 1)
    assert store.task("a").aliases == {"production": 2}
    assert blobs(root) == {blob_name(b"two")}
    with pytest.raises(NotFound):
        store.read("a", 1)
    with pytest.raises(NotFound):
        store.delete_version("a", 1)
    with pytest.raises(Conflict, match="no previous"):
        store.rollback("a")


def test_the_version_in_production_is_not_deleted(store: AdapterStore) -> None:
    store.publish("a", b"one")
    with pytest.raises(Conflict, match="in production; move that alias first"):
        store.delete_version("a", 1)
    assert store.read("a", 1) == b"one"


def test_version_numbers_are_never_used_again(store: AdapterStore, root: Path) -> None:
    store.publish("a", b"one", alias=None)
    store.delete_version("a", 1)
    with pytest.raises(NotFound):
        store.task("a")
    assert store.publish("a", b"one").version == 2
    store.delete_task("a")
    assert store.tasks() == []
    with pytest.raises(NotFound):
        store.delete_task("a")
    published = AdapterStore(root).publish("a", b"one")
    assert (published.version, published.created, published.state.revision) == (3, True, 5)


def test_the_same_set_after_reopening(store: AdapterStore, root: Path) -> None:
    for task in ("b", "a", "c"):
        for data in (b"one", b"two"):
            store.publish(task, data + task.encode())
    store.rollback("b")
    store.delete_task("c")
    assert [state.task for state in store.tasks()] == ["a", "b"]
    reopened = AdapterStore(root)
    assert reopened.tasks() == store.tasks()
    assert reopened.read("b", 2) == b"twob"


def test_another_handle_sees_every_change(store: AdapterStore, root: Path) -> None:
    other = AdapterStore(root)
    store.publish("a", b"one")
    assert other.task("a") == store.task("a")
    other.publish("a", b"two")
    other.set_alias("a", "canary", 1)
    assert store.task("a") == other.task("a")
    store.delete_task("a")
    assert other.tasks() == []


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A"])
def test_no_method_accepts_a_path_as_a_name(store: AdapterStore, root: Path, name: str) -> None:
    before = sorted(root.rglob("*"))
    calls = (
        lambda: store.publish(name, b"one"),
        lambda: store.publish("a", b"one", alias=name),
        lambda: store.read(name, 1),
        lambda: store.task(name),
        lambda: store.resolve(name),
        lambda: store.set_alias(name, "x", 1),
        lambda: store.set_alias("a", name, 1),
        lambda: store.rollback(name),
        lambda: store.delete_version(name, 1),
        lambda: store.delete_task(name),
    )
    for call in calls:
        with pytest.raises(InvalidName):
            call()
    assert sorted(root.rglob("*")) == before


def test_a_caller_cannot_change_the_store_through_what_it_was_given(store: AdapterStore) -> None:
    state = store.publish("a", b"one").state
    assert isinstance(state.aliases, dict)
    state.aliases["production"] = 99
    assert store.task("a").aliases == {"production": 1}


def test_damaged_bytes_are_found_and_healed_by_publishing_again(store: AdapterStore, root: Path) -> None:
    store.publish("a", b"one")
    path = root / "adapters" / blob_name(b"one")
    path.write_bytes(b"oNe")
    with pytest.raises(Corrupt, match="does not have that digest"):
        store.read("a", 1)
    assert not store.publish("a", b"one").created
    assert store.read("a", 1) == b"one"
    path.unlink()
    with pytest.raises(Corrupt, match="a@1 is missing"):
        store.read("a", 1)
    store.publish("a", b"one")
    assert store.read("a", 1) == b"one"


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[:-1],
        lambda raw: b"",
        lambda raw: raw.replace(b'"task":"a"', b'"task":"b"'),
        lambda raw: raw.replace(b'"revision":2', b'"revision":3'),
        lambda raw: raw.replace(b'"next_version":3', b'"next_version":2'),
        lambda raw: raw.replace(b'"version":2', b'"version":1'),
        lambda raw: raw.replace(b'"production":2', b'"production":9'),
        lambda raw: raw.replace(b"sha256:", b"../256:"),
        lambda raw: raw.replace(b'"schema_version":1', b'"schema_version":2'),
        lambda raw: raw.replace(b'"action"', b'"surprise":1,"action"'),
    ],
)
def test_a_damaged_log_harms_no_other_task(store: AdapterStore, root: Path, change) -> None:  # type: ignore[no-untyped-def]
    store.publish("b", b"other")
    for data in (b"one", b"two"):
        store.publish("a", data)
    newest = commits(root, "a")[-1]
    damaged = change(newest.read_bytes())
    assert damaged != newest.read_bytes()
    newest.write_bytes(damaged)
    reopened = AdapterStore(root)
    assert [state.task for state in reopened.tasks()] == ["b"]
    assert list(reopened.damaged()) == ["a"]
    for call in (lambda: reopened.task("a"), lambda: reopened.publish("a", b"three")):
        with pytest.raises(Corrupt, match="commit 2 of task 'a'"):
            call()
    reopened.delete_task("b")
    assert len(blobs(root)) >= 3, "a log that cannot be read may use any file, so none is removed"


def test_strangers_in_the_folders_are_ignored(store: AdapterStore, root: Path) -> None:
    store.publish("a", b"one")
    (root / "tasks" / ".DS_Store").write_bytes(b"x")
    (root / "tasks" / "Not A Task").mkdir()
    (root / "tasks" / "empty").mkdir()
    (root / "tasks" / "a" / "notes.txt").write_bytes(b"x")
    (root / "adapters" / "README").write_bytes(b"x")
    reopened = AdapterStore(root)
    assert reopened.tasks() == store.tasks()
    assert reopened.damaged() == {}
    assert (root / "adapters" / "README").exists()


def test_only_old_temporary_files_are_removed_on_opening(store: AdapterStore, root: Path) -> None:
    young, old = root / "temporary" / ".1-young.tmp", root / "temporary" / ".1-old.tmp"
    for path in (young, old):
        path.write_bytes(b"half a file")
    os.utime(old, (time.time() - 7_200,) * 2)
    AdapterStore(root)
    assert young.exists()
    assert not old.exists()
    AdapterStore(root, now_seconds=lambda: time.time() + 7_200)
    assert not young.exists()


def test_bytes_that_no_version_uses_are_removed_on_opening(store: AdapterStore, root: Path) -> None:
    store.publish("a", b"one")
    orphan = root / "adapters" / blob_name(b"orphan")
    orphan.write_bytes(b"orphan")
    with store._blobs.in_use():  # somebody is publishing: perhaps these very bytes
        AdapterStore(root)
        assert orphan.exists()
    AdapterStore(root)
    assert blobs(root) == {blob_name(b"one")}


def test_a_publisher_that_relies_on_shared_bytes_never_loses_them(
    store: AdapterStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race: `b` finds the bytes of `a` in place, `a` is deleted, then `b` commits."""
    store.publish("a", b"one")
    found, deleted = threading.Event(), threading.Event()
    slow = AdapterStore(root)
    put = slow._blobs.put

    def put_then_wait(data: bytes) -> str:
        digest = put(data)
        found.set()
        time.sleep(0.1)  # the deletion has committed by now, and must wait before it removes the bytes
        assert not deleted.is_set()
        return digest

    monkeypatch.setattr(slow._blobs, "put", put_then_wait)
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(slow.publish, "b", b"one")
        assert found.wait(5)
        store.delete_task("a")
        deleted.set()
        publishing.result()
    assert store.read("b", 1) == b"one"


def test_many_threads_on_one_task_lose_nothing(store: AdapterStore, root: Path) -> None:
    other = AdapterStore(root)

    def publish(index: int) -> int:
        handle = (store, other)[index % 2]
        return handle.publish("a", f"data {index}".encode()).version

    with ThreadPoolExecutor(8) as pool:
        versions = sorted(pool.map(publish, range(64)))
    assert versions == list(range(1, 65))
    state = store.task("a")
    assert (state.revision, len(state.versions)) == (64, 64)
    assert {store.read("a", version) for version in versions} == {f"data {i}".encode() for i in range(64)}


def test_one_of_many_conditional_writers_wins(store: AdapterStore) -> None:
    store.publish("a", b"one")
    store.publish("a", b"two", alias=None)

    def move(index: int) -> bool:
        try:
            store.set_alias("a", f"alias-{index}", 2, expect_revision=2)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(move, range(16))) == 1


def test_a_writer_that_never_wins_gives_up_with_a_conflict(
    store: AdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_append", lambda commit: False)
    with pytest.raises(Conflict, match="changed too often"):
        store.publish("a", b"one")


def test_readers_never_see_half_a_change(store: AdapterStore, root: Path) -> None:
    reader, stop = AdapterStore(root), threading.Event()
    store.publish("a", b"0")

    def read() -> int:
        reads = 0
        while not stop.is_set():
            try:
                record = reader.resolve("a")
                assert digest_of(reader.read("a", record.version)) == record.digest
            except NotFound:  # deleted between the two calls: an honest answer
                pass
            assert len(reader.tasks()) == 1
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(read) for _ in range(2)]
        for index in range(1, 60):
            store.publish("a", str(index).encode())
            store.delete_version("a", index)
        stop.set()
        assert all(future.result() > 0 for future in futures)


def test_errors_form_one_tree() -> None:
    for kind in (NotFound, Conflict, PreconditionFailed, Corrupt, InvalidName):
        assert issubclass(kind, StoreError)
    assert issubclass(PreconditionFailed, Conflict)


def test_looking_again_costs_no_reading(store: AdapterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        store.publish(f"task-{index}", b"one")

    def decode(raw: bytes, task: str, revision: int) -> None:
        raise AssertionError(f"commit {revision} of {task} was read again")

    monkeypatch.setattr(task_log, "decode", decode)
    assert len(store.tasks()) == 20
    assert store.resolve("task-7").version == 1
