"""Where store, cache and device change together: loading at start, uploads, aliases, deletes.

A version is published only after it was installed and its first probes were replayed, and it becomes visible
only after it is durable; whatever fails on the way leaves nothing behind. If one of its other probes fails
later, it is withdrawn. One event loop owns the catalog; disk work runs on threads, device work on the
engine's thread. It knows no HTTP; how a start loads is in `loading`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from adapters_store import AdapterStore, FileLimits, NotFound, Published, StoreError, TaskState
from modeling import Backbone, Moulds, Placement
from modeling.served import BARE
from proof.candidate import Candidate, examine
from proof.circumstances import circumstances
from proof.errors import Refused
from proof.replay import ProbeReport

from ..engine.engine import Engine
from ..engine.request import ServingCard
from ..errors import NotReady, RegistryFull
from ..metrics import Metrics
from .cache import AdapterCache, Resident
from .card import card_of
from .loading import Loader, Stored
from .proving import Prover, shortest_first
from .remaining import Remaining

log = logging.getLogger(__name__)

PROBES_FIRST = 8  # before a version is visible
PROBES_AMONG_OTHERS = 4  # of them at a time, while requests are answered
MAX_LOOKED_AT = 256  # residents, to find one that mixes
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
        self._metrics = metrics
        self._max_adapters, self._max_batch_tokens = max_adapters, max_batch_tokens
        self._file_limits = FileLimits(max_file_bytes=max_adapter_bytes)
        self._moulds = Moulds(backbone)
        self._proofs = store.proofs(circumstances(backbone))
        self._loader = Loader(
            store,
            self._moulds,
            engine,
            self.cache,
            self._proofs,
            metrics,
            limits=self._file_limits,
            max_batch_tokens=max_batch_tokens,
            num_probes=startup_probes,
        )
        self._prover = Prover(engine, backbone)
        self._remaining = Remaining(self._prover, self.cache, self._proofs, self._withdraw)
        self._resuming: asyncio.Task[None] | None = None
        self._states: dict[str, TaskState] = {}
        self._changing = asyncio.Lock()  # one change of the store at a time, in the order of the mirror
        self._num_loading = 0

    # ---- reading

    @property
    def read_only(self) -> str | None:
        """Why nothing in the store can be changed; None if it can."""
        return self._store.read_only

    @property
    def num_not_reproduced(self) -> int:
        """Stored versions whose probes came out differently at the start."""
        return self._loader.num_not_reproduced

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
        versions = [(state.task, record) for state in states for record in state.versions]
        await self._loader.load(versions)
        for state in states:
            self._mirror(state)
        try:
            await asyncio.to_thread(self._proofs.keep, {record.digest for _, record in versions})
        except OSError as error:  # what was found is found again
            log.warning("what was proven could not be remembered", extra={"reason": str(error)})
        self._resuming = asyncio.create_task(self._resume(self._loader.unfinished))

    async def stop(self) -> None:
        """End what is done beside requests; what is left of it is done after the next start."""
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.gather(self._resuming, return_exceptions=True)
        await self._remaining.stop()

    # ---- uploads

    def require_writable(self) -> None:
        """Before a body is read or a probe replayed for nothing. Raises ReadOnlyStore."""
        with self._store.changing():
            pass

    async def upload(
        self, task: str, data: bytes, *, alias: str | None
    ) -> tuple[Published, Candidate, ProbeReport]:
        """Check a file, replay some of its probes on the served model, publish it, make it visible.

        The other probes follow; the report is of those before. Raises Refused, RegistryFull, StoreError, and
        Overloaded as a request does; then nothing has changed.
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
            examine, data, self._backbone, task=task, limits=self._file_limits, moulds=self._moulds
        )
        placement = await self._install(candidate)
        kept = False
        try:
            card = card_of(candidate.manifest, candidate.packed.spec, placement)
            report = await self._prove(candidate, card)
            self._metrics.load.observe(time.perf_counter() - started_s)
            async with self._changing:
                published = await asyncio.to_thread(self._store.publish, task, data, alias=alias)
                if self.cache.get(task, published.version) is None:
                    resident = Resident(task, published.version, published.digest, placement.slot, card)
                    self.cache.add(resident)
                    kept = True
                self._mirror(published.state)
        finally:
            if not kept:
                self._give_back(placement.slot)
                await self._settle()
        self._go_on(task, published.version, candidate, shortest_first(candidate)[report.count :])
        return published, candidate, report

    async def _prove(self, candidate: Candidate, card: ServingCard) -> ProbeReport:
        """Replay what has to hold before the version is visible; meanwhile note that more is to be done.

        These are the shortest probes; of a file that was refused before, all of them. Raises Refused and, as
        requests do, Overloaded.
        """
        known, num_probes = self._proofs.of(candidate.digest), len(candidate.probes)
        word = None if known is None else known.word
        num_first = num_probes if word == "refused" else min(num_probes, PROBES_FIRST)
        num_pending = 0 if word == "proven" else num_probes - num_first
        replaying = self._replay(candidate, card, shortest_first(candidate)[:num_first])
        if word == "refused" or (word is None and num_pending):
            noting = asyncio.to_thread(self._note_begun, candidate.digest)
            report, noted = await asyncio.gather(replaying, noting, return_exceptions=True)
            for one in (report, noted):
                if isinstance(one, BaseException):
                    raise one
            assert isinstance(report, ProbeReport)
        else:
            report = await replaying
        return replace(report, pending=num_pending)

    def _note_begun(self, digest: str) -> None:
        with self._store.changing():
            self._proofs.note("begun", digest)

    async def _replay(self, candidate: Candidate, card: ServingCard, numbers: Sequence[int]) -> ProbeReport:
        """In a batch with the bare backbone and with a resident that mixes, if there is one."""
        looked_at = islice(self.cache, MAX_LOOKED_AT)
        mixing = (one for one in looked_at if not one.card.placement.exclusive)
        leases = [self.cache.acquire(f"{one.task}@{one.version}") for one in islice(mixing, 1)]
        try:
            neighbours = [BARE, *(lease.resident.card.placement for lease in leases)]
            size = PROBES_AMONG_OTHERS if self._engine.scheduler.num_open else len(numbers)
            reports = [
                await self._prover.replay(candidate, card, numbers[i : i + size], neighbours)
                for i in range(0, len(numbers), size)
            ]
            most = max(report.max_difference for report in reports)
            return ProbeReport(sum(report.count for report in reports), most)
        finally:
            for lease in leases:
                self.cache.release(lease)

    def _go_on(self, task: str, version: int, candidate: Candidate, numbers: Sequence[int]) -> None:
        """With the other probes, unless they were reproduced before."""
        resident = self.cache.get(task, version)
        known = self._proofs.of(candidate.digest)
        if resident is not None and (known is None or known.word != "proven"):
            self._remaining.start(resident, candidate, numbers)

    async def _resume(self, unfinished: Sequence[Stored]) -> None:
        """Replay all probes of versions whose upload was cut off."""
        for stored in unfinished:
            resident = self.cache.get(stored.task, stored.record.version)
            if resident is None:
                continue
            try:
                data = await asyncio.to_thread(self._store.read, stored.task, stored.record.version)
                candidate = await asyncio.to_thread(
                    examine, data, self._backbone, task=stored.task, moulds=self._moulds
                )
            except (StoreError, OSError, Refused) as error:
                await self._withdraw(resident, str(error))
            else:
                await self._remaining.finish(resident, candidate, shortest_first(candidate))

    async def _withdraw(self, resident: Resident[ServingCard], reason: str) -> None:
        """A visible version turned out not to be what its file says: what was current before it is again."""
        task, version, reason = resident.task, resident.version, f"withdrawn: {reason}"
        async with self._changing:
            if self.cache.get(task, version) is not resident:  # it was deleted meanwhile
                return
            try:
                state = await asyncio.to_thread(
                    self._store.withdraw, task, version, unusable=self.cache.failures(task)
                )
                self._mirror(state)
                await asyncio.to_thread(self._proofs.note, "refused", resident.digest, reason=reason)
            except (StoreError, OSError) as error:  # the next start comes to the same end
                told = {"task": task, "version": version, "reason": str(error)}
                log.error("the store could not be told of a withdrawal", extra=told)
            self.cache.retire(task, version)
            self.cache.add_failed(task, version, reason)
        self._metrics.uploads.labels("withdrawn").inc()
        log.error("version withdrawn", extra={"task": task, "version": version, "reason": reason})

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
        packed = candidate.packed
        return await asyncio.wrap_future(
            self._engine.call(lambda model: model.placement(model.install(packed)))
        )

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
