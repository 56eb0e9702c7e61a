"""Where store, cache and device change together: loading at start, uploads, aliases, deletes.

A version is published only after it was installed and its probes were replayed, and it becomes visible only
after it is durable; whatever fails on the way leaves nothing behind. One event loop owns the catalog; disk
work runs on threads, device work on the engine's thread. It knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice

from adapters_store import AdapterStore, FileLimits, NotFound, Published, StoreError, TaskState
from modeling import Backbone, Placement
from modeling.served import BARE
from proof.candidate import Candidate, examine
from proof.errors import Refused
from proof.replay import TOLERANCES, ProbeReport, Probes, by_probe, compare, plan_probes, replay

from ..engine.engine import Engine
from ..engine.request import Logits, ServingCard
from ..errors import NotReady, RegistryFull
from ..metrics import Metrics
from .cache import AdapterCache, Resident
from .card import card_of

log = logging.getLogger(__name__)

_Key = tuple[str, int]  # task, version
_Installed = tuple[_Key, Candidate, Placement]

LOADED_TOGETHER = 32
MAX_NEIGHBOURS = 16
MAX_LOOKED_AT = 256  # residents, to find neighbours among them
MAX_LISTED_VERSIONS = 1_000  # after which a page of tasks ends


class Catalog:
    """Every task that the store holds, with what is resident of it."""

    def __init__(
        self,
        store: AdapterStore,
        backbone: Backbone,
        engine: Engine,
        metrics: Metrics,
        *,
        max_adapter_bytes: int,
        max_adapters: int,
        max_batch_tokens: int,
        startup_probes: int,
    ) -> None:
        self.cache: AdapterCache[ServingCard] = AdapterCache(lambda resident: self._give_back(resident.slot))
        self._store, self._backbone, self._engine = store, backbone, engine
        self._metrics, self._startup_probes = metrics, startup_probes
        self._max_adapters, self._max_batch_tokens = max_adapters, max_batch_tokens
        self._file_limits = FileLimits(max_file_bytes=max_adapter_bytes)
        self._tolerance = TOLERANCES[backbone.dtype]
        self._states: dict[str, TaskState] = {}
        self._changing = asyncio.Lock()  # one change of the store at a time, in the order of the mirror
        self._num_loading = 0

    # ---- reading

    @property
    def read_only(self) -> str | None:
        """Why nothing in the store can be changed; None if it can."""
        return self._store.read_only

    def page(self, after: str, limit: int, part: str) -> tuple[list[TaskState], str | None]:
        """Tasks in order behind `after` that have `part` in their names, and after which one to go on.

        At most `limit`, and fewer where they have many versions; None where there are no more.
        """
        names, following = self.cache.page(after, limit, part)
        states: list[TaskState] = []
        num_versions = 0
        for state in filter(None, map(self._states.get, names)):
            states.append(state)
            num_versions += len(state.versions)
            if num_versions >= MAX_LISTED_VERSIONS and state.task != names[-1]:
                return states, state.task
        return states, following

    def task(self, name: str) -> TaskState:
        """One task. Raises NotFound."""
        state = self._states.get(name)
        if state is None:
            raise NotFound(self.cache.no_task(name))
        return state

    # ---- the start

    async def load_all(self) -> None:
        """Load every live version; a broken one is recorded and logged, and harms no other."""
        states = await asyncio.to_thread(self._store.tasks)
        for task, reason in (await asyncio.to_thread(self._store.damaged)).items():
            log.error("task skipped", extra={"task": task, "reason": reason})
        versions = [(state.task, record.version) for state in states for record in state.versions]
        for start in range(0, len(versions), LOADED_TOGETHER):
            await self._load_group(versions[start : start + LOADED_TOGETHER])
        for state in states:
            self._mirror(state)

    async def _load_group(self, group: Sequence[_Key]) -> None:
        """Read, install and replay a few versions together; their probes share batches."""
        outcomes = await asyncio.to_thread(lambda: [self._read(*key) for key in group])
        installed: list[_Installed] = []
        for key, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, str):
                self._skip(key, outcome)
                continue
            try:
                installed.append((key, outcome, await self._install(outcome)))
            except Exception as error:  # no memory, most likely; those that fit are served
                self._skip(key, f"it could not be installed: {error}")
        try:
            await self._replay(installed)
        except Exception:  # one of them breaks the pass: find out which
            log.exception("replaying probes together failed")
            for one in installed:
                await self._replay_alone(one)

    async def _replay(self, installed: Sequence[_Installed]) -> None:
        chosen = [candidate.probes[: self._startup_probes] for _, candidate, _ in installed]
        placements = [placement for _, _, placement in installed]
        logits = iter(await self._run_probes(list(zip(chosen, placements, strict=True)), neighbours=()))
        for (key, candidate, placement), probes in zip(installed, chosen, strict=True):
            replayed = by_probe(probes, logits)
            try:
                compare(candidate, replayed, self._tolerance)
            except Refused as error:
                self._give_back(placement.slot)
                self._skip(key, str(error))
            else:
                card = card_of(candidate, placement)
                self.cache.add(Resident(*key, candidate.digest, placement.slot, card))

    async def _replay_alone(self, one: _Installed) -> None:
        try:
            await self._replay([one])
        except Exception as error:
            self._give_back(one[2].slot)
            self._skip(one[0], f"its probes could not be replayed: {type(error).__name__}")

    def _read(self, task: str, version: int) -> Candidate | str:
        """A stored version, examined; or why it cannot be served."""
        started_s = time.perf_counter()
        try:
            candidate = examine(
                self._store.read(task, version), self._backbone, task=task, limits=self._file_limits
            )
        except (StoreError, Refused, OSError) as error:
            return str(error)
        self._metrics.load.observe(time.perf_counter() - started_s)
        return candidate

    def _skip(self, key: _Key, reason: str) -> None:
        log.error("stored version skipped", extra={"task": key[0], "version": key[1], "reason": reason})
        self.cache.add_failed(*key, reason)

    # ---- uploads

    def require_writable(self) -> None:
        """Before a body is read or a probe replayed for nothing. Raises ReadOnlyStore."""
        with self._store.changing():
            pass

    async def upload(
        self, task: str, data: bytes, *, alias: str | None
    ) -> tuple[Published, Candidate, ProbeReport]:
        """Check a file, replay its probes on the served model, publish it, make it visible.

        Raises Refused, RegistryFull, StoreError; then nothing has changed.
        """
        self.require_writable()
        if len(self.cache) + self._num_loading >= self._max_adapters:
            raise RegistryFull(
                f"{len(self.cache)} adapters are resident; allowed: {self._max_adapters}. "
                "Delete versions that nobody uses, or raise max_adapters"
            )
        self._num_loading += 1
        try:
            return await self._upload(task, data, alias)
        finally:
            self._num_loading -= 1

    async def _upload(
        self, task: str, data: bytes, alias: str | None
    ) -> tuple[Published, Candidate, ProbeReport]:
        started_s = time.perf_counter()
        candidate = await asyncio.to_thread(
            examine, data, self._backbone, task=task, limits=self._file_limits
        )
        placement = await self._install(candidate)
        kept = False
        try:
            probes = candidate.probes
            logits = await self._run_probes([(probes, placement)], self._neighbours())
            report = compare(candidate, by_probe(probes, iter(logits)), self._tolerance)
            self._metrics.load.observe(time.perf_counter() - started_s)
            async with self._changing:
                published = await asyncio.to_thread(self._store.publish, task, data, alias=alias)
                if self.cache.get(task, published.version) is None:
                    card = card_of(candidate, placement)
                    resident = Resident(task, published.version, published.digest, placement.slot, card)
                    self.cache.add(resident)
                    kept = True
                self._mirror(published.state)
        finally:
            if not kept:
                self._give_back(placement.slot)
                await self._settle()
        return published, candidate, report

    def _neighbours(self) -> list[Placement]:
        """What shares the replayed batches: the bare backbone and some residents that mix."""
        placements = (resident.card.placement for resident in islice(self.cache, MAX_LOOKED_AT))
        mixing = (placement for placement in placements if not placement.exclusive)
        return [BARE, *islice(mixing, MAX_NEIGHBOURS - 1)]

    # ---- aliases and deletes

    async def set_alias(self, task: str, alias: str, version: int, expect_revision: int | None) -> TaskState:
        """Point an alias at a version. Raises NotFound, PreconditionFailed."""
        async with self._changing:
            state = await asyncio.to_thread(
                self._store.set_alias, task, alias, version, expect_revision=expect_revision
            )
            self._mirror(state)
        return state

    async def rollback(self, task: str) -> TaskState:
        """Swap production and previous. Raises NotFound, Conflict."""
        async with self._changing:
            state = await asyncio.to_thread(self._store.rollback, task)
            self._mirror(state)
        return state

    async def delete_version(self, task: str, version: int) -> None:
        """Delete one version; its slot is freed when the last request that uses it is answered."""
        async with self._changing:
            await asyncio.to_thread(self._store.delete_version, task, version)
            try:
                self._mirror(await asyncio.to_thread(self._store.task, task))
            except NotFound:
                self._forget(task)
            self.cache.retire(task, version)
        await self._settle()

    async def delete_task(self, task: str) -> None:
        async with self._changing:
            await asyncio.to_thread(self._store.delete_task, task)
            self._forget(task)
        await self._settle()

    # ---- the device

    async def _install(self, candidate: Candidate) -> Placement:
        """Where a newly installed adapter sits; nobody can refer to it yet."""
        packed = candidate.adapter.pack()
        return await asyncio.wrap_future(
            self._engine.call(lambda model: model.placement(model.install(packed)))
        )

    async def _run_probes(
        self, installed: Sequence[tuple[Probes, Placement]], neighbours: Sequence[Placement]
    ) -> list[Logits]:
        """Replay on the served model, one call per batch, so that requests run in between."""
        batches = plan_probes(
            installed,
            neighbours=neighbours,
            max_batch_tokens=self._max_batch_tokens,
            max_row_tokens=self._backbone.max_tokens,
        )
        logits: list[Logits] = []
        for batch in batches:
            logits += await asyncio.wrap_future(self._engine.call(partial(replay, batch=batch)))
        return logits

    def _give_back(self, slot: int) -> None:
        try:
            self._engine.call(lambda model: model.remove(slot))
        except NotReady:  # the engine has stopped: the slot is gone with the model
            log.debug("slot not given back", extra={"slot": slot})

    async def _settle(self) -> None:
        """Wait until the slots given back so far are free, so that what is told next is true."""
        await asyncio.wrap_future(self._engine.call(lambda _: None))

    def _mirror(self, state: TaskState) -> None:
        self._states[state.task] = state
        self.cache.set_aliases(state.task, state.aliases)

    def _forget(self, task: str) -> None:
        self._states.pop(task, None)
        self.cache.retire_task(task)
        self._metrics.forget_task(task)
