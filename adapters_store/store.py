"""The store of adapter versions: a log of commits per task, and files named by digest. Pure of tensors.

Writers never lock each other out: commit n+1 is created only if it does not exist, and whoever loses that
race looks again and retries. Readers need one look per task, whether commit n+1 is there yet.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from adapters_store import durable, folders, task_log
from adapters_store.blobs import Blobs
from adapters_store.errors import Conflict, Corrupt, NotFound
from adapters_store.names import PRODUCTION, check_alias, check_task_name, is_name, parse_ref
from adapters_store.proofs import Proofs
from adapters_store.task_log import Commit, TaskState, VersionRecord
from adapters_store.uses import Uses

_COMMIT_FILE = re.compile(r"([0-9]{10})\.json")
_MAX_ATTEMPTS = 1_000
_STALE_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Published:
    """The outcome of a publish: `created` is False when these bytes were a live version already."""

    version: int
    digest: str
    created: bool
    record: VersionRecord
    state: TaskState


class AdapterStore:
    """Versions and aliases of every task under one folder; safe for threads and for several processes.

    A folder that may be read and not written is a store as well: `read_only` says why, changes are refused.

    Opening raises UnusableStore. Every method raises InvalidName for names that are not of the fixed form,
    Corrupt when a log or a file is damaged, and OSError when the disk fails; every change also
    ReadOnlyStore, and FullStore (an OSError too).
    """

    def __init__(self, root: Path, *, now_seconds: Callable[[], float] = time.time) -> None:
        root = Path(root)
        self.read_only = folders.prepare(root)
        self._root = root
        self._tasks, self._temporary = root / "tasks", root / "temporary"
        self._now_seconds = now_seconds
        self._blobs = Blobs(root / "adapters", temporary=self._temporary, lock=root / "lock")
        self._uses = Uses(root / "changes")
        # Threads may leave an older commit here than another has seen: the next look then finds out.
        self._newest: dict[str, Commit] = {}
        if self.read_only is None:
            self._remove_stale()
            with contextlib.suppress(BlockingIOError), self._blobs.alone(wait=False):
                self._sweep()

    def changing(self) -> AbstractContextManager[None]:
        """Around a change; raises ReadOnlyStore at once where it cannot be made."""
        return folders.changing(self._root, self.read_only)

    def proofs(self, circumstances: str) -> Proofs:
        """What was found of its files under these circumstances."""
        return Proofs(self._root / "proofs", circumstances, None if self.read_only else self._temporary)

    def tasks(self) -> list[TaskState]:
        """Every task with a live version, by name. Damaged logs are left out; `damaged` lists them."""
        return [commit.state() for commit in self._scan()[0] if commit.versions]

    def damaged(self) -> dict[str, str]:
        """The tasks whose log cannot be read, with the reason."""
        return self._scan()[1]

    def task(self, name: str) -> TaskState:
        """The state of one task. Raises NotFound."""
        return task_log.require_live(self._current(check_task_name(name))).state()

    def resolve(self, ref: str) -> VersionRecord:
        """The version that `name`, `name@3` or `name@alias` means at this moment. Raises NotFound."""
        parsed = parse_ref(ref)
        commit = task_log.require_live(self._current(parsed.task))
        if parsed.version is not None:
            return commit.find(parsed.version)
        if parsed.alias not in commit.aliases:
            known = ", ".join(sorted(commit.aliases)) or "none"
            raise NotFound(f"task {parsed.task!r} has no alias {parsed.alias!r}; its aliases: {known}")
        return commit.find(commit.aliases[parsed.alias])

    def read(self, task: str, version: int) -> bytes:
        """The bytes that were published, verified against their digest. Raises NotFound, Corrupt."""
        record = task_log.require_live(self._current(check_task_name(task))).find(version)
        try:
            return self._blobs.read(record.digest)
        except FileNotFoundError:
            self._current(task).find(version)  # NotFound if it was deleted since we looked
            raise Corrupt(f"the file of {task}@{version} is missing; publish the same bytes again") from None

    def publish(self, task: str, data: bytes, *, alias: str | None = PRODUCTION) -> Published:
        """Stores `data` as a new version and points `alias` (None: nothing) at it, in one commit.

        Bytes that are a live version of the task already give that version, and the alias moves to it.
        """
        check_task_name(task)
        if alias is not None:
            check_alias(alias)
        with self.changing(), self._blobs.in_use():
            digest = self._blobs.put(data)
            change = partial(task_log.with_version, digest=digest, size_bytes=len(data), alias=alias)
            with self._uses.changing():
                before, after = self._commit(task, partial(change, at=self._now()))
            created = after.next_version != before.next_version
            if created:
                self._uses.add(digest)
        record = after.find_digest(digest)
        assert record is not None, "a published version is live in its own commit; this is a bug"
        return Published(record.version, digest, created, record, after.state())

    def set_alias(
        self, task: str, alias: str, version: int, *, expect_revision: int | None = None
    ) -> TaskState:
        """Points `alias` at a live version; moving `production` keeps the old one as `previous`.

        Raises NotFound, and PreconditionFailed when the task is not at `expect_revision`.
        """
        check_task_name(task)
        change = partial(task_log.with_alias, alias=check_alias(alias), version=version)
        change = partial(change, expect_revision=expect_revision, at=self._now())
        with self.changing():
            return self._commit(task, change)[1].state()

    def rollback(self, task: str) -> TaskState:
        """Swaps `production` and `previous`. Raises NotFound, and Conflict when nothing was there before."""
        change = partial(task_log.rolled_back, at=self._now())
        with self.changing():
            return self._commit(check_task_name(task), change)[1].state()

    def withdraw(self, task: str, version: int, *, unusable: Collection[int] = ()) -> TaskState:
        """Points the aliases at a version, which is not to be used, back to what they pointed at before.

        That is never one of the `unusable` versions; an alias that has nothing to go back to stays, and so
        does the version. Raises NotFound.
        """

        def change(current: Commit) -> Commit:
            earlier = self._earlier(current)
            return task_log.withdrawn(current, version, unusable, earlier, self._now())

        with self.changing():
            return self._commit(check_task_name(task), change)[1].state()

    def _earlier(self, current: Commit) -> Iterator[Commit]:
        """The commits before one, the newest first; those that are damaged are left out."""
        for revision in range(current.revision - 1, 0, -1):
            try:
                data = self._path(current.task, revision).read_bytes()
                yield task_log.decode(data, current.task, revision)
            except (Corrupt, OSError):
                continue

    def delete_version(self, task: str, version: int) -> None:
        """Deletes one version, and its file when no live version uses it.

        Aliases at it vanish, but for `production`: raises Conflict. Raises NotFound.
        """
        change = partial(task_log.without_version, version=version, at=self._now())
        self._delete(check_task_name(task), change)

    def delete_task(self, task: str) -> None:
        """Deletes all versions and aliases of a task; its version numbers stay used. Raises NotFound."""
        self._delete(check_task_name(task), partial(task_log.emptied, at=self._now()))

    def _delete(self, task: str, change: Callable[[Commit], Commit]) -> None:
        """Commits a change that drops versions, and removes the files that nobody uses now."""
        with self.changing(), self._blobs.alone():
            with self._uses.changing():
                before, after = self._commit(task, change)
            kept = {record.digest for record in after.versions}
            dropped = [record.digest for record in before.versions if record.digest not in kept]
            unused = self._uses.remove(dropped)
            if unused is None:
                self._sweep()
            else:
                self._blobs.remove(unused)

    def _commit(self, task: str, change: Callable[[Commit], Commit]) -> tuple[Commit, Commit]:
        """Applies `change` to the newest commit until no writer was faster; returns before and after."""
        for _ in range(_MAX_ATTEMPTS):
            before = self._current(task)
            after = change(before)
            if after is before:  # the answer rests on a commit whose own writer may not have come so far
                durable.sync_folder(self._tasks / task)
                return before, after
            if self._append(after):
                return before, after
        raise Conflict(f"task {task!r} is being changed too often; try again")

    def _append(self, commit: Commit) -> bool:
        path = self._path(commit.task, commit.revision)
        if commit.revision == 1:
            durable.make_folder(path.parent)
        if not durable.put_if_absent(path, task_log.encode(commit), self._temporary):
            return False
        self._newest[commit.task] = commit
        return True

    def _current(self, task: str) -> Commit:
        """The newest commit of a task, or the blank one. Costs one look while nothing has changed."""
        known = self._newest.get(task)
        if known is not None and not os.path.exists(self._name(task, known.revision + 1)):
            return known
        revision = self._last_revision(task)
        if revision == 0:
            return task_log.blank(task)
        commit = task_log.decode(self._path(task, revision).read_bytes(), task, revision)
        self._newest[task] = commit
        return commit

    def _last_revision(self, task: str) -> int:
        try:
            names = os.listdir(f"{self._tasks}/{task}")
        except FileNotFoundError:
            return 0
        return max((int(match[1]) for name in names if (match := _COMMIT_FILE.fullmatch(name))), default=0)

    def _scan(self) -> tuple[list[Commit], dict[str, str]]:
        commits, damaged = [], {}
        for task in sorted(filter(is_name, os.listdir(self._tasks))):
            try:
                commits.append(self._current(task))
            except (Corrupt, OSError) as error:
                damaged[task] = str(error)
        return commits, damaged

    def _sweep(self) -> None:
        """Counts anew what is used, and removes every other file. The lock is held alone."""
        commits, damaged = self._scan()
        if damaged:  # a log that cannot be read may use any file
            return
        digests = [record.digest for commit in commits for record in commit.versions]
        self._uses.learn(digests)
        self._blobs.remove_except(set(digests))

    def _remove_stale(self) -> None:
        """Removes temporary files that a killed writer left; young ones may belong to a living one."""
        for path in self._temporary.glob(".*.tmp"):
            try:
                if self._now_seconds() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()
            except FileNotFoundError:  # its writer was alive and has just finished
                continue

    def _path(self, task: str, revision: int) -> Path:
        return Path(self._name(task, revision))

    def _name(self, task: str, revision: int) -> str:
        """A plain string: looking at 5,000 tasks would else spend most of its time building paths."""
        return f"{self._tasks}/{task}/{revision:010d}.json"

    def _now(self) -> str:
        return datetime.fromtimestamp(self._now_seconds(), UTC).isoformat(timespec="milliseconds")
