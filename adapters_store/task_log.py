"""The log of one task as values: what a commit holds and which commit may follow it. No files, no clock.

A commit holds the whole state after it, so the newest one alone is read. Every function below returns the
next commit, or the very commit it was given when there is nothing to change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from adapters_store.errors import Conflict, Corrupt, NotFound, PreconditionFailed
from adapters_store.names import PREVIOUS, PRODUCTION, Digest, Name

_Count = Annotated[int, Field(ge=1)]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One immutable version: its number, the digest of its file, its size, when it was published (UTC)."""

    version: _Count
    digest: Digest
    size_bytes: Annotated[int, Field(ge=0)]
    created: str


@dataclass(frozen=True, slots=True)
class TaskState:
    """What callers see of a task. `revision` is the number of its last commit and serves as an ETag."""

    task: str
    revision: int
    versions: tuple[VersionRecord, ...]
    aliases: Mapping[str, int]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of the log: the state after it, what was done (`action`) and when (`at`, UTC)."""

    task: Name
    revision: Annotated[int, Field(ge=0)]
    action: str
    at: str
    next_version: _Count
    versions: tuple[VersionRecord, ...]
    aliases: dict[Name, int]
    schema_version: Literal[1] = 1

    def state(self) -> TaskState:
        """The state as callers see it; the aliases are a copy, so nobody can write into the store's index."""
        return TaskState(self.task, self.revision, self.versions, dict(self.aliases))

    def find(self, version: int) -> VersionRecord:
        """The record of a live version; raises NotFound."""
        for record in self.versions:
            if record.version == version:
                return record
        live = ", ".join(str(record.version) for record in self.versions[-10:])
        raise NotFound(f"task {self.task!r} has no version {version}; the newest live ones: {live}")

    def find_digest(self, digest: str) -> VersionRecord | None:
        """The record of the live version with these bytes, if there is one."""
        return next((record for record in self.versions if record.digest == digest), None)


_COMMIT = TypeAdapter(Commit)


def blank(task: str) -> Commit:
    """The state before the first commit."""
    return Commit(task, 0, "", "", 1, (), {})


def with_version(current: Commit, digest: str, size_bytes: int, alias: str | None, at: str) -> Commit:
    """Adds a version unless one with this digest is live, and points `alias` (if any) at it."""
    record = current.find_digest(digest)
    if record is not None:
        return current if alias is None else with_alias(current, alias, record.version, None, at)
    record = VersionRecord(current.next_version, digest, size_bytes, at)
    aliases = current.aliases if alias is None else _aimed(current.aliases, alias, record.version)
    versions = (*current.versions, record)
    grown = replace(current, next_version=record.version + 1, versions=versions, aliases=aliases)
    return _numbered(grown, f"publish {record.version}", at)


def with_alias(current: Commit, alias: str, version: int, expect_revision: int | None, at: str) -> Commit:
    """Points `alias` at a live version. Raises NotFound, PreconditionFailed."""
    require_live(current)
    if expect_revision is not None and expect_revision != current.revision:
        revisions = f"revision {current.revision}, not {expect_revision}"
        raise PreconditionFailed(f"task {current.task!r} is at {revisions}; read it again, then decide")
    current.find(version)
    if current.aliases.get(alias) == version:
        return current
    aimed = replace(current, aliases=_aimed(current.aliases, alias, version))
    return _numbered(aimed, f"alias {alias} {version}", at)


def rolled_back(current: Commit, at: str) -> Commit:
    """Swaps `production` and `previous`. Raises NotFound, and Conflict when there is no previous version."""
    require_live(current)
    aliases = dict(current.aliases)
    target, old = aliases.pop(PREVIOUS, None), aliases.get(PRODUCTION)
    if target is None:
        raise Conflict(f"task {current.task!r} has no previous version to roll back to; set an alias instead")
    if target == old:
        return current
    swapped = replace(current, aliases=_aimed(aliases, PRODUCTION, target))
    return _numbered(swapped, f"rollback {target}", at)


def withdrawn(
    current: Commit, version: int, unusable: Collection[int], earlier: Iterable[Commit], at: str
) -> Commit:
    """Points the aliases at a version back to the last usable one that they pointed at; the version stays.

    `earlier` are the commits before this one, the newest first. An alias that never pointed at another usable
    version stays as well. Raises NotFound.
    """
    require_live(current).find(version)
    usable = {record.version for record in current.versions} - {version, *unusable}
    aliases, before = dict(current.aliases), None
    left = {alias for alias, target in aliases.items() if target == version}
    for commit in earlier if left else ():
        for alias in sorted(left):
            if commit.aliases.get(alias) in usable:
                aliases[alias] = commit.aliases[alias]
                before = commit.aliases.get(PREVIOUS) if alias == PRODUCTION else before
                left.remove(alias)
        if not left:
            break
    if aliases == current.aliases:
        return current
    if PRODUCTION in aliases and aliases.get(PREVIOUS) == aliases[PRODUCTION]:  # nothing to roll back to
        del aliases[PREVIOUS]
        if before in usable and before != aliases[PRODUCTION]:
            aliases[PREVIOUS] = before
    return _numbered(replace(current, aliases=aliases), f"withdraw {version}", at)


def without_version(current: Commit, version: int, at: str) -> Commit:
    """Drops a version and the aliases at it. Raises NotFound, and Conflict when it is in production."""
    require_live(current)
    current.find(version)
    if current.aliases.get(PRODUCTION) == version:
        remedy = "move that alias first, or delete the task"
        raise Conflict(f"version {version} of task {current.task!r} is in production; {remedy}")
    versions = tuple(record for record in current.versions if record.version != version)
    aliases = {name: target for name, target in current.aliases.items() if target != version}
    return _numbered(replace(current, versions=versions, aliases=aliases), f"delete {version}", at)


def emptied(current: Commit, at: str) -> Commit:
    """Drops every version and alias; the log stays, so no number is used twice. Raises NotFound."""
    require_live(current)
    return _numbered(replace(current, versions=(), aliases={}), "delete", at)


def require_live(current: Commit) -> Commit:
    """Returns `current`; raises NotFound when the task has no live version."""
    if not current.versions:
        raise NotFound(f"there is no task {current.task!r}")
    return current


def encode(commit: Commit) -> bytes:
    return _COMMIT.dump_json(commit)


def decode(raw: bytes, task: str, revision: int) -> Commit:
    """Reads a commit file and checks that it is the one it should be. Raises Corrupt."""
    where = f"commit {revision} of task {task!r}"
    try:
        commit = _COMMIT.validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = f"{first['loc']}: {first['msg']}"
        raise Corrupt(f"{where} cannot be read ({reason}); restore it from a copy") from error
    if (commit.task, commit.revision) != (task, revision) or not _is_sound(commit):
        raise Corrupt(f"{where} contradicts itself; restore it from a copy")
    return commit


def _is_sound(commit: Commit) -> bool:
    numbers = [record.version for record in commit.versions]
    ascending = all(low < high for low, high in pairwise([*numbers, commit.next_version]))
    return ascending and set(commit.aliases.values()) <= set(numbers)


def _aimed(aliases: Mapping[str, int], alias: str, version: int) -> dict[str, int]:
    """The aliases after `alias` has moved to another version; what left production becomes `previous`."""
    moved = {**aliases, alias: version}
    if alias == PRODUCTION and alias in aliases:
        moved[PREVIOUS] = aliases[alias]
    return moved


def _numbered(commit: Commit, action: str, at: str) -> Commit:
    return replace(commit, revision=commit.revision + 1, action=action, at=at)
