"""Power cuts: the disk dies at every step of every operation, with all that was not yet made durable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapters_store import AdapterStore, TaskState, durable
from adapters_store.blobs import digest_of

Operation = Callable[[AdapterStore], object]
MAX_STEPS = 60


class PowerCut(BaseException):
    """Not an Exception: code that runs after it, such as a `finally`, finds the disk dead too."""


@dataclass
class Disk:
    """Stands before the system calls that change names or make things durable.

    It dies at step `dies_at`, just before or just after that call, and then forgets (`forgets`) the data of
    files and the names in folders that nobody has synced.
    """

    dies_at: int
    after: bool
    forgets: bool
    step: int = 0
    unsynced_files: set[Path] = field(default_factory=set)
    unsynced_names: list[tuple[Path, Callable[[], object]]] = field(default_factory=list)

    def plug_in(self, patch: pytest.MonkeyPatch) -> None:
        real = {name: getattr(os, name) for name in ("open", "fsync", "link", "replace", "mkdir", "unlink")}
        for name, call in real.items():
            patch.setattr(os, name, self._counted(call, getattr(self, f"_note_{name}")))

    def _counted(self, call: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if call is os_open and not args[1] & os.O_CREAT:
                return call(*args, **options)
            self.step += 1
            if self.step > self.dies_at or (self.step == self.dies_at and not self.after):
                raise PowerCut
            remembered = self._before(args)
            result = call(*args, **options)
            note(*args, remembered)
            if self.step == self.dies_at:
                raise PowerCut
            return result

        return counted

    def _before(self, args: tuple[Any, ...]) -> bytes | None:
        """What the last path among the arguments holds, to bring it back."""
        path = Path(args[1] if len(args) > 1 and isinstance(args[1], str | Path) else str(args[0]))
        return path.read_bytes() if path.is_file() else None

    def _note_open(self, path: Any, *_: Any) -> None:
        self.unsynced_files.add(Path(path))

    def _note_fsync(self, descriptor: int, *_: Any) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self.unsynced_files.discard(path)
        self.unsynced_names = [pair for pair in self.unsynced_names if pair[0] != path]

    def _note_link(self, source: Any, target: Any, *_: Any) -> None:
        self._same_data(source, target)
        self._name(target, lambda: os.unlink(target))

    def _note_replace(self, source: Any, target: Any, old: bytes | None) -> None:
        self._same_data(source, target)
        self._name(target, lambda: os.unlink(target) if old is None else Path(target).write_bytes(old))

    def _note_mkdir(self, path: Any, *_: Any) -> None:
        self._name(path, lambda: shutil.rmtree(path))

    def _note_unlink(self, path: Any, *rest: Any) -> None:
        old = rest[-1]
        self.unsynced_files.discard(Path(path))
        self._name(path, lambda: Path(path).write_bytes(old))

    def _same_data(self, source: Any, target: Any) -> None:
        """A second name of data that was not synced is lost like the first."""
        if Path(source) in self.unsynced_files:
            self.unsynced_files.add(Path(target))

    def _name(self, path: Any, undo: Callable[[], object]) -> None:
        self.unsynced_names.append((Path(path).parent, undo))

    def forget(self) -> None:
        if not self.forgets:
            return
        for path in self.unsynced_files:
            if path.exists():
                os.truncate(path, 0)
        for _, undo in reversed(self.unsynced_names):
            undo()


os_open = os.open

OPERATIONS: dict[str, Operation] = {
    "publish the first version of a task": lambda store: store.publish("new", b"new"),
    "publish another version": lambda store: store.publish("a", b"three"),
    "publish without an alias": lambda store: store.publish("a", b"three", alias=None),
    "publish known bytes": lambda store: store.publish("a", b"one"),
    "publish bytes that another task has": lambda store: store.publish("b", b"one"),
    "set an alias": lambda store: store.set_alias("a", "canary", 1),
    "roll back": lambda store: store.rollback("a"),
    "withdraw a version": lambda store: store.withdraw("a", store.task("a").aliases["production"]),
    "delete a version": lambda store: store.delete_version("a", 1),
    "delete a version that shares its bytes": lambda store: store.delete_version("b", 1),
    "delete a task": lambda store: store.delete_task("a"),
}


def filled_store(root: Path) -> AdapterStore:
    store = AdapterStore(root, now_seconds=lambda: 0.0)
    store.publish("a", b"one")
    store.publish("a", b"two")
    store.publish("b", b"two")
    store.publish("b", b"other")
    return store


def picture(root: Path) -> list[TaskState]:
    """Every task as a fresh process sees it, all bytes checked; opening sweeps what is not used."""
    store = AdapterStore(root, now_seconds=lambda: 0.0)
    assert store.damaged() == {}
    states = store.tasks()
    for state in states:
        for record in state.versions:
            assert digest_of(store.read(state.task, record.version)) == record.digest
    used = {f"{r.digest.replace(':', '-')}.safetensors" for state in states for r in state.versions}
    assert {path.name for path in (root / "adapters").iterdir()} == used
    return states


def run_until_dead(root: Path, operation: Operation, disk: Disk) -> bool:
    """Whether the operation came to its end before the disk died."""
    store = AdapterStore(root, now_seconds=lambda: 0.0)
    with pytest.MonkeyPatch.context() as patch:
        disk.plug_in(patch)
        try:
            operation(store)
            finished = True
        except PowerCut:
            finished = False
    disk.forget()
    return finished


@pytest.fixture
def shared_memory(tmp_path: Path) -> Iterator[Path]:
    """Thousands of syncs are quick on a file system in memory; the order of calls is what is tested."""
    base = Path("/dev/shm")
    folder = base / f"trunkline-test-{os.getpid()}" if os.access(base, os.W_OK) else tmp_path / "crash"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("forgets", [False, True], ids=["keeps", "forgets"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_power_cut_leaves_the_old_state_or_the_new_one(
    shared_memory: Path, name: str, forgets: bool
) -> None:
    filled_store(shared_memory / "old")
    old = picture(shared_memory / "old")
    shutil.copytree(shared_memory / "old", shared_memory / "new")
    OPERATIONS[name](AdapterStore(shared_memory / "new", now_seconds=lambda: 0.0))
    new = picture(shared_memory / "new")
    seen = []
    for after in (False, True):
        for dies_at in range(1, MAX_STEPS):
            root = shared_memory / f"{after}-{dies_at}"
            shutil.copytree(shared_memory / "old", root)
            finished = run_until_dead(root, OPERATIONS[name], Disk(dies_at, after, forgets))
            state = picture(root)
            assert state == new if finished else state in (old, new), f"died at step {dies_at}"
            seen.append(state)
            if finished:
                break
        else:
            raise AssertionError(f"more than {MAX_STEPS} steps")
    assert old in seen
    assert new in seen


def test_the_disk_of_these_tests_catches_a_store_that_does_not_sync(
    shared_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: without syncing the folder, an answer is given for a commit that is lost."""
    filled_store(shared_memory / "a")
    old = picture(shared_memory / "a")
    monkeypatch.setattr(durable, "sync_folder", lambda folder: None)
    disk = Disk(MAX_STEPS, after=False, forgets=True)
    assert run_until_dead(shared_memory / "a", OPERATIONS["set an alias"], disk)
    assert picture(shared_memory / "a") == old


@pytest.mark.parametrize("forgets", [False, True])
def test_a_power_cut_while_a_file_is_replaced(shared_memory: Path, forgets: bool) -> None:
    target = shared_memory / "adapter.safetensors"
    for after in (False, True):
        for dies_at in range(1, MAX_STEPS):
            target.write_bytes(b"old")
            with pytest.MonkeyPatch.context() as patch:
                disk = Disk(dies_at, after, forgets)
                disk.plug_in(patch)
                try:
                    durable.replace(target, b"new", shared_memory)
                    finished = True
                except PowerCut:
                    finished = False
            disk.forget()
            assert target.read_bytes() == b"new" if finished else target.read_bytes() in (b"old", b"new")
            if finished:
                break


def test_a_failing_disk_is_an_oserror_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(tmp_path)
    before = picture(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.publish("a", b"three")
    assert not list((tmp_path / "temporary").iterdir())
    assert picture(tmp_path) == before
    assert store.publish("a", b"three").version == 3


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were made durable, in order."""
    folders: list[Path] = []
    sync = durable.sync_folder

    def noted(folder: Path) -> None:
        folders.append(folder)
        sync(folder)

    monkeypatch.setattr(durable, "sync_folder", noted)
    return folders


def test_an_answer_never_rests_on_what_another_writer_has_not_yet_synced(
    tmp_path: Path, synced: list[Path]
) -> None:
    store = filled_store(tmp_path)
    synced.clear()
    assert not store.publish("a", b"two").created  # nothing is written, yet both folders are synced
    assert synced == [tmp_path / "adapters", tmp_path / "tasks" / "a"]
    synced.clear()
    store.publish("a", b"three")
    assert synced == [tmp_path / "adapters", tmp_path / "tasks" / "a"]


def test_missing_parents_of_the_root_are_made_durable(tmp_path: Path, synced: list[Path]) -> None:
    AdapterStore(tmp_path / "x" / "y")
    assert {tmp_path, tmp_path / "x", tmp_path / "x" / "y"} <= set(synced)
