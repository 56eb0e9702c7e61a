"""A store that may only be read, one without hard links, and one that is neither: what each does and says."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters_store import AdapterStore, FullStore, ReadOnlyStore, TaskState, UnusableStore, durable
from tests.rights import ANYBODY
from tests.unit.adapters_store.test_store_crash import OPERATIONS, filled_store, picture
from tests.unit.adapters_store.test_store_processes import (
    CHANGE_FOREVER,
    PUBLISH_MANY,
    REPOSITORY,
    check_reopened,
    started,
)

NO_LINKS = ("EPERM", "ENOTSUP", "ENOSYS", "EMLINK", "EINVAL", "EXDEV")
WITHOUT_LINKS = """
import errno, os
def link(*_, **__): raise OSError(errno.EPERM, "Operation not permitted")
os.link = link
"""
LOOK = """
import sys
from adapters_store import *
from adapters_store.blobs import digest_of
try:
    store = AdapterStore(sys.argv[1])
except UnusableStore as error:
    print(error)
    sys.exit()
print(store.read_only)
for s in store.tasks():
    print(s.task, [digest_of(store.read(s.task, r.version)) == r.digest for r in s.versions])
for change in (
    lambda: store.publish("a", b"new"),
    lambda: store.publish("a", b"one"),
    lambda: store.set_alias("a", "x", 1),
    lambda: store.rollback("a"),
    lambda: store.delete_version("a", 1),
    lambda: store.delete_task("a"),
):
    try:
        change()
    except ReadOnlyStore as error:
        print(error)
"""


def looked_at(root: Path) -> list[str]:
    """What a process without the right to write says of the store."""
    folders = [path for path in (root, *root.rglob("*")) if path.is_dir()]
    modes = {path: path.stat().st_mode for path in folders}
    for path in folders:
        path.chmod(modes[path] & 0o555)
    try:
        command = [*ANYBODY, sys.executable, "-c", LOOK, str(root)]
        found = subprocess.run(
            command,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        for path in folders:
            path.chmod(modes[path])
    return found.stdout.splitlines()


def image(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


@pytest.mark.parametrize("missing", ["", "lock", "temporary"])
def test_what_may_only_be_read_is_read_and_every_change_refused(tmp_path: Path, missing: str) -> None:
    filled_store(tmp_path)
    if missing:
        shutil.rmtree(tmp_path / missing) if (tmp_path / missing).is_dir() else (tmp_path / missing).unlink()
    before = image(tmp_path)
    reason, *tasks, _, _, _, _, _, _ = told = looked_at(tmp_path)
    assert reason.startswith("Permission denied: ")
    assert tasks == ["a [True, True]", "b [True, True]"]
    assert all(f"the store {tmp_path} is read-only (Permission denied" in refusal for refusal in told[3:])
    assert image(tmp_path) == before


def test_a_writer_is_seen_by_a_reader_that_may_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = filled_store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "put_if_absent", _failing(errno.EROFS))
        reader = AdapterStore(tmp_path)
    assert reader.read_only == "Read-only file system"
    writer.publish("a", b"three")
    assert reader.read("a", 3) == b"three"


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: (folder / "notes").write_text("x")])
def test_a_folder_that_holds_no_store_and_takes_none_is_one_sentence(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path)
    (told,) = looked_at(tmp_path)
    assert told.startswith(f"the store {tmp_path} cannot be used: Permission denied: {tmp_path}/adapters; ")
    assert "No such file" in told
    assert "--store" in told


def test_a_folder_that_cannot_be_made_or_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone" / "far")
    for root in (
        tmp_path / "file",
        tmp_path / "file" / "below",
        Path("/proc/1/store"),
        tmp_path / ("x" * 300),
    ):
        with pytest.raises(UnusableStore, match="cannot be used") as error:
            AdapterStore(root)
        assert "\n" not in str(error.value)


def test_what_cannot_be_read_is_not_served_as_empty(tmp_path: Path) -> None:
    filled_store(tmp_path)
    (tmp_path / "tasks").chmod(0o333)
    (told,) = looked_at(tmp_path)
    (tmp_path / "tasks").chmod(0o777)
    assert told.startswith(f"the store {tmp_path} cannot be used: Permission denied: {tmp_path}")


def _failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(("number", "kind"), [(errno.EROFS, ReadOnlyStore), (errno.ENOSPC, FullStore)])
def test_a_disk_that_turns_read_only_or_full_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    store = filled_store(tmp_path)
    before = picture(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _failing(number))
        for change in (lambda: store.publish("a", b"x"), lambda: store.rollback("a")):
            with pytest.raises(kind, match=f"the store {tmp_path} .*{os.strerror(number)}"):
                change()
        if kind is FullStore:  # it may have room again: it opens, and takes what fits
            opened = AdapterStore(tmp_path)
            assert opened.read_only is None
    assert picture(tmp_path) == before
    assert store.publish("a", b"x").version == 3


def test_a_disk_that_fails_is_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled_store(tmp_path)
    monkeypatch.setattr(os, "fsync", _failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error") as error:
        store.publish("a", b"x")
    assert not isinstance(error.value, FullStore)
    with pytest.raises(UnusableStore, match="Input/output error"):
        AdapterStore(tmp_path)


# ---- without hard links


@pytest.mark.parametrize("name", NO_LINKS)
def test_without_links_every_operation_ends_as_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pictures: list[list[list[TaskState]]] = [[], []]
    for seen, number in zip(pictures, (None, getattr(errno, name)), strict=True):
        with monkeypatch.context() as patch:
            if number is not None:
                patch.setattr(os, "link", _failing(number))
            for title, operation in OPERATIONS.items():
                folder = tmp_path / str(number) / title
                filled_store(folder)
                operation(AdapterStore(folder, now_seconds=lambda: 0.0))
                seen.append(picture(folder))
    assert pictures[0] == pictures[1]
    assert not list(tmp_path.rglob("*.tmp"))


def test_without_links_one_writer_of_a_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other one is told so, and the file is whole and the winner's."""
    monkeypatch.setattr(os, "link", _failing(errno.EPERM))
    replace = os.replace

    def slowly(*names: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: None).result()
        replace(*names)

    monkeypatch.setattr(os, "replace", slowly)
    for attempt in range(40):
        target = tmp_path / f"{attempt}.json"
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(durable.put_if_absent, target, bytes([i]), tmp_path) for i in range(4)]
            won = [number for number, job in enumerate(jobs) if job.result()]
        assert len(won) == 1
        assert target.read_bytes() == bytes(won)


def test_without_links_processes_that_publish_at_once_lose_nothing(tmp_path: Path) -> None:
    workers = [started(WITHOUT_LINKS + PUBLISH_MANY, tmp_path, worker, 10) for worker in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    answers = [worker.communicate("go\n", timeout=60)[0].split() for worker in workers]
    assert sorted(int(number) for answer in answers for number in answer) == list(range(1, 31))
    assert [record.version for record in AdapterStore(tmp_path).task("shared").versions] == list(range(1, 31))


def test_without_links_a_store_survives_being_killed(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for kill in range(5):
        worker = started(WITHOUT_LINKS + CHANGE_FOREVER, tmp_path, kill * 1_000)
        assert worker.stdout is not None
        first = worker.stdout.readline()
        worker.kill()
        for line in (first + worker.communicate(timeout=60)[0]).splitlines():
            words = line.split()
            if len(words) == 2 and words[1].isdigit():
                acknowledged[words[0]] = max(int(words[1]), acknowledged.get(words[0], 0))
        check_reopened(tmp_path, acknowledged)


def test_a_file_system_without_links_and_locks_is_refused_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(os, "link", _failing(errno.EPERM))
    monkeypatch.setattr(fcntl, "flock", _failing(errno.ENOLCK))
    with pytest.raises(UnusableStore, match="No locks available"):
        AdapterStore(tmp_path / "store")
