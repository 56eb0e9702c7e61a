"""Which files a delete removes: by counts while nobody else changes the store, else by all logs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters_store import AdapterStore, Conflict, NotFound, durable
from adapters_store.blobs import digest_of


class Watched(AdapterStore):
    """Counts how often all logs were read."""

    num_scans = 0

    def _scan(self):  # type: ignore[no-untyped-def]
        self.num_scans += 1
        return super()._scan()


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    store = Watched(tmp_path / "store")
    store.num_scans = 0
    return store


def held(store: AdapterStore) -> set[str]:
    return {path.name for path in (store._root / "adapters").iterdir()}


def names(*contents: bytes) -> set[str]:
    return {digest_of(data).replace(":", "-") + ".safetensors" for data in contents}


def test_a_delete_reads_no_other_log(store: Watched) -> None:
    for task in ("a", "b"):
        for data in (b"shared", b"own of " + task.encode()):
            store.publish(task, data)
    store.publish("c", b"shared", alias=None)
    store.delete_version("a", 1)
    store.delete_task("b")
    assert held(store) == names(b"shared", b"own of a")
    with pytest.raises(NotFound):
        store.delete_task("b")
    with pytest.raises(Conflict):
        store.delete_version("a", 2)
    store.delete_task("c")
    assert held(store) == names(b"own of a")
    store.delete_task("a")
    assert held(store) == set()
    assert store.num_scans == 0


def test_the_counts_begin_with_what_is_there(store: Watched) -> None:
    for task in ("a", "b"):
        store.publish(task, b"shared")
    again = Watched(store._root)
    assert again.num_scans == 1
    again.delete_task("a")
    assert held(store) == names(b"shared")
    again.delete_task("b")
    assert held(store) == set()
    assert again.num_scans == 1


def test_known_bytes_are_not_counted_twice(store: Watched) -> None:
    for _ in range(3):
        store.publish("a", b"one")
    store.publish("a", b"two")
    store.set_alias("a", "production", 2)
    store.delete_version("a", 1)
    assert held(store) == names(b"two")
    assert store.num_scans == 0


def test_what_another_process_published_is_not_removed(store: Watched) -> None:
    other = Watched(store._root)
    store.publish("a", b"one")
    other.publish("b", b"one")
    store.delete_task("a")
    assert other.read("b", 1) == b"one"
    assert store.num_scans == 1  # now it knows of b
    store.publish("c", b"one")
    store.delete_task("c")
    assert store.num_scans == 1
    assert other.read("b", 1) == b"one"


def test_what_another_process_deleted_is_removed_by_the_last(store: Watched) -> None:
    store.publish("a", b"one")
    store.publish("b", b"one")
    other = Watched(store._root)
    other.delete_task("b")
    assert held(store) == names(b"one")
    store.delete_task("a")
    assert held(store) == set()


def test_a_commit_that_may_be_there_ends_the_counts(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its link was made, and then the disk failed: nobody knows, so the logs are read."""
    store.publish("a", b"one")
    real = durable.put_if_absent

    def fail_late(target: Path, data: bytes, temporary: Path) -> bool:
        created = real(target, data, temporary)
        if target.suffix == ".json":
            raise OSError("the disk failed")
        return created

    with monkeypatch.context() as patch:
        patch.setattr(durable, "put_if_absent", fail_late)
        with pytest.raises(OSError, match="the disk failed"):
            store.publish("b", b"one")
    store.delete_task("a")
    assert store.num_scans == 1
    assert AdapterStore(store._root).read("b", 1) == b"one"


def test_a_store_that_is_being_written_while_it_is_opened_is_counted_later(store: Watched) -> None:
    store.publish("a", b"one")
    with store._blobs.in_use():
        late = Watched(store._root)
    assert late.num_scans == 0
    late.publish("b", b"one")
    late.delete_task("a")
    assert late.num_scans == 1
    assert late.read("b", 1) == b"one"


def test_threads_that_publish_and_delete_the_same_bytes_lose_none(store: Watched) -> None:
    store.publish("keeper", b"shared")
    start = threading.Barrier(4)

    def churn(number: int) -> None:
        start.wait()
        for _ in range(15):
            store.publish(f"t{number}", b"shared")
            store.publish(f"t{number}", f"own {number}".encode())
            store.delete_task(f"t{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))
    assert held(store) == names(b"shared")
    assert store.num_scans == 0
    store.delete_task("keeper")
    assert held(store) == set()
