"""The store against a plain dictionary: any sequence of operations, through two handles, with reopening."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from adapters_store import AdapterStore, Conflict, NotFound, PreconditionFailed, TaskState
from adapters_store.blobs import digest_of

TASKS = st.sampled_from(["a", "b", "c.d"])
DATA = st.sampled_from([b"", b"one", b"two", b"three", bytes(1000)])
ALIASES = st.sampled_from(["production", "previous", "canary"])
VERSIONS = st.integers(1, 6)
HANDLES = st.integers(0, 1)


@dataclass
class Model:
    """One task as a dictionary would hold it."""

    next_version: int = 1
    revision: int = 0
    live: dict[int, bytes] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    log: list[dict[str, int]] = field(default_factory=list)  # the aliases after each change

    def aim(self, alias: str, version: int) -> None:
        if self.aliases.get(alias) == version:
            return
        if alias == "production" and alias in self.aliases:
            self.aliases["previous"] = self.aliases[alias]
        self.aliases[alias] = version

    def changed(self) -> None:
        self.revision += 1
        self.log.append(dict(self.aliases))

    def withdraw(self, version: int, unusable: set[int]) -> None:
        """Each alias at the version to the last usable one that it pointed at."""
        usable, found = self.live.keys() - {version, *unusable}, dict(self.aliases)
        for alias in [alias for alias, target in found.items() if target == version]:
            last = next((old for old in reversed(self.log[:-1]) if old.get(alias) in usable), None)
            if last is None:
                continue
            found[alias] = last[alias]
            if alias == "production":
                before = last.get("previous")
        if found == self.aliases:
            return
        if "production" in found and found.get("previous") == found["production"]:
            del found["previous"]
            if self.aliases["production"] == version and before in usable and before != found["production"]:
                found["previous"] = before
        self.aliases = found
        self.changed()


class StoreMachine(RuleBasedStateMachine):
    """Two handles on one folder, as two processes would have; either may be reopened at any time."""

    def __init__(self) -> None:
        super().__init__()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(dir=base))
        self.syncing = mock.patch("os.fsync")  # the order of syncs has its own test
        self.syncing.start()
        self.model: dict[str, Model] = {}

    def teardown(self) -> None:
        self.syncing.stop()
        shutil.rmtree(self.root)

    @initialize()
    def open(self) -> None:
        self.handles = [AdapterStore(self.root), AdapterStore(self.root)]

    @rule(handle=HANDLES)
    def reopen(self, handle: int) -> None:
        self.handles[handle] = AdapterStore(self.root)

    @rule(handle=HANDLES, task=TASKS, data=DATA, alias=ALIASES | st.none())
    def publish(self, handle: int, task: str, data: bytes, alias: str | None) -> None:
        model = self.model.setdefault(task, Model())
        before = (dict(model.live), dict(model.aliases))
        known = [version for version, held in model.live.items() if held == data]
        version = known[0] if known else model.next_version
        if not known:
            model.live[version] = data
            model.next_version += 1
        if alias is not None:
            model.aim(alias, version)
        if before != (model.live, model.aliases):
            model.changed()
        published = self.handles[handle].publish(task, data, alias=alias)
        assert (published.version, published.created) == (version, not known)
        assert published.record.digest == published.digest == digest_of(data)
        assert published.state.revision == model.revision

    @rule(
        handle=HANDLES, task=TASKS, alias=ALIASES, version=VERSIONS, offset=st.sampled_from([None, 0, 0, -1])
    )
    def set_alias(self, handle: int, task: str, alias: str, version: int, offset: int | None) -> None:
        model = self.live(task)
        expected = None if model is None or offset is None else model.revision + offset
        if model is None or (version not in model.live and offset != -1):
            with pytest.raises(NotFound):
                self.handles[handle].set_alias(task, alias, version, expect_revision=expected)
        elif offset == -1:
            with pytest.raises(PreconditionFailed):
                self.handles[handle].set_alias(task, alias, version, expect_revision=expected)
        else:
            if model.aliases.get(alias) != version:
                model.changed()
            model.aim(alias, version)
            state = self.handles[handle].set_alias(task, alias, version, expect_revision=expected)
            assert state.aliases == model.aliases

    @rule(handle=HANDLES, task=TASKS)
    def rollback(self, handle: int, task: str) -> None:
        model = self.live(task)
        if model is None or "previous" not in model.aliases:
            with pytest.raises(NotFound if model is None else Conflict):
                self.handles[handle].rollback(task)
            return
        if model.aliases["previous"] != model.aliases.get("production"):
            model.aim("production", model.aliases.pop("previous"))
            model.changed()
        assert self.handles[handle].rollback(task).aliases == model.aliases

    @rule(handle=HANDLES, task=TASKS, version=VERSIONS, unusable=st.sets(VERSIONS, max_size=2))
    def withdraw(self, handle: int, task: str, version: int, unusable: set[int]) -> None:
        model = self.live(task)
        if model is None or version not in model.live:
            with pytest.raises(NotFound):
                self.handles[handle].withdraw(task, version, unusable=unusable)
            return
        model.withdraw(version, unusable)
        state = self.handles[handle].withdraw(task, version, unusable=unusable)
        assert (state.aliases, state.revision) == (model.aliases, model.revision)

    @rule(handle=HANDLES, task=TASKS, version=VERSIONS)
    def delete_version(self, handle: int, task: str, version: int) -> None:
        model = self.live(task)
        if model is None or version not in model.live:
            with pytest.raises(NotFound):
                self.handles[handle].delete_version(task, version)
        elif model.aliases.get("production") == version:
            with pytest.raises(Conflict):
                self.handles[handle].delete_version(task, version)
        else:
            self.handles[handle].delete_version(task, version)
            del model.live[version]
            model.aliases = {name: target for name, target in model.aliases.items() if target != version}
            model.changed()

    @rule(handle=HANDLES, task=TASKS)
    def delete_task(self, handle: int, task: str) -> None:
        model = self.live(task)
        if model is None:
            with pytest.raises(NotFound):
                self.handles[handle].delete_task(task)
            return
        self.handles[handle].delete_task(task)
        model.live, model.aliases = {}, {}
        model.changed()

    @invariant()
    def the_store_is_the_model(self) -> None:
        for store in self.handles:
            states = {state.task: state for state in store.tasks()}
            assert states.keys() == {task for task in self.model if self.live(task)}
            for task, state in states.items():
                self.check(store, state, self.model[task])

    @invariant()
    def the_files_are_those_in_use(self) -> None:
        used = {
            digest_of(data).replace(":", "-") for model in self.model.values() for data in model.live.values()
        }
        assert {path.stem for path in (self.root / "adapters").iterdir()} == used
        assert not list((self.root / "temporary").iterdir())

    def check(self, store: AdapterStore, state: TaskState, model: Model) -> None:
        assert state == store.task(state.task)
        assert (state.revision, state.aliases) == (model.revision, model.aliases)
        assert {r.version: store.read(state.task, r.version) for r in state.versions} == model.live
        for alias, version in model.aliases.items():
            assert store.resolve(f"{state.task}@{alias}").version == version

    def live(self, task: str) -> Model | None:
        model = self.model.get(task)
        return model if model is not None and model.live else None


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStore = StoreMachine.TestCase
