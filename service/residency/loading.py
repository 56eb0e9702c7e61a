"""The start: every stored version read, installed and, unless that is remembered, its first probes replayed.

Files are read on several threads and installed many at a time. Of those that were proven before under the
same circumstances (`proof.circumstances`), one of each kind is replayed all the same: if it does not hold,
what is remembered counts for nothing. It knows no HTTP, and changes nothing in the store but that.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from adapters_store import AdapterStore, FileLimits, Manifest, StoreError, VersionRecord
from adapters_store.adapter_file import read_again
from adapters_store.manifest import Outline
from adapters_store.proofs import Proofs
from modeling import Moulds, PackedAdapter, Placement
from modeling.allocator import give_freed_memory_back
from proof.candidate import Candidate, examine, method_of, spec_of
from proof.errors import Refused
from proof.replay import TOLERANCES, by_probe, compare, plan_probes, replay

from ..engine.engine import Engine
from ..engine.request import Logits, ServingCard
from ..engine.runner import Model
from ..errors import NotReady
from ..metrics import Metrics
from ..threads import have_one
from .cache import AdapterCache, Resident
from .card import card_of

log = logging.getLogger(__name__)

LOADED_TOGETHER = 64  # files in memory at a time, twice
_MAX_READERS = 2  # what releases the interpreter is reading and digesting alone

Version = tuple[str, VersionRecord]  # of a task


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored version that was read. There is a candidate if probes are to be replayed."""

    task: str
    record: VersionRecord
    manifest: Manifest | Outline
    packed: PackedAdapter
    candidate: Candidate | None = None


_Outcome = tuple[Version, Stored | str]  # what was read; or why it cannot be served
_Installed = tuple[Stored, Placement]


class Loader:
    """Loads stored versions into the model and the cache; one event loop uses it.

    `unfinished` are versions of which probes are still to be replayed: their upload was cut off before.
    """

    def __init__(
        self,
        store: AdapterStore,
        moulds: Moulds,
        engine: Engine,
        cache: AdapterCache[ServingCard],
        proofs: Proofs,
        metrics: Metrics,
        *,
        limits: FileLimits,
        max_batch_tokens: int,
        num_probes: int,
    ) -> None:
        self._store, self._moulds, self._backbone = store, moulds, moulds.backbone
        self._engine, self._cache, self._proofs, self._metrics = engine, cache, proofs, metrics
        self._limits, self._max_batch_tokens, self._num_probes = limits, max_batch_tokens, num_probes
        self._kinds: set[str] = set()  # of which one was replayed, or is about to be
        self.unfinished: list[Stored] = []
        self.num_not_reproduced = 0  # stored versions whose probes came out differently

    async def load(self, versions: Sequence[Version]) -> None:
        """Load them in groups; a broken one is recorded and logged, and harms no other."""
        with _no_collection():
            await self._load(versions)
        await asyncio.to_thread(give_freed_memory_back)  # files, and the smaller banks of before

    async def _load(self, versions: Sequence[Version]) -> None:
        groups = [versions[i : i + LOADED_TOGETHER] for i in range(0, len(versions), LOADED_TOGETHER)]
        with ThreadPoolExecutor(min(_MAX_READERS, os.cpu_count() or 1), "reader", have_one) as pool:
            reading = self._reading(pool, groups[0]) if groups else None
            for number, group in enumerate(groups):
                outcomes = await (reading or self._reading(pool, group))
                more = groups[number + 1 : number + 2]
                reading = self._reading(pool, more[0]) if more else None
                if await self._load_group(outcomes):
                    continue
                log.error("what is remembered of stored versions does not hold: all are replayed")
                self._proofs.forget_proven()
                if reading is not None:  # read in trust
                    await reading
                    reading = None
                await self._load_group(await self._reading(pool, group))

    # ---- reading, on threads

    def _reading(self, pool: ThreadPoolExecutor, group: Sequence[Version]) -> asyncio.Task[list[_Outcome]]:
        """A group in a few parts, each read on a thread."""
        size = -(-len(group) // _MAX_READERS)
        parts = [group[i : i + size] for i in range(0, len(group), size)]
        futures = [asyncio.wrap_future(pool.submit(self._read_all, part)) for part in parts]

        async def joined() -> list[_Outcome]:
            return [outcome for part in await asyncio.gather(*futures) for outcome in part]

        return asyncio.create_task(joined())

    def _read_all(self, versions: Iterable[Version]) -> list[_Outcome]:
        return [(version, self._read(*version)) for version in versions]

    def _read(self, task: str, record: VersionRecord) -> Stored | str:
        """A stored version; or why it cannot be served."""
        started_s = time.perf_counter()
        proof = self._proofs.of(record.digest)
        if proof is not None and proof.word == "refused":
            return proof.reason
        try:
            data = self._store.read(task, record.version)
            found = None
            if proof is not None and proof.word == "proven" and len(data) <= self._limits.max_file_bytes:
                found = self._again(task, record, data)
            if found is None:
                found = self._examined(task, record, data)
        except (StoreError, Refused, OSError) as error:
            return str(error)
        self._metrics.load.observe(time.perf_counter() - started_s)
        return found

    def _again(self, task: str, record: VersionRecord, data: bytes) -> Stored | None:
        """Of bytes that were proven; None where they are examined: of another task, or first of a kind."""
        manifest, tensors = read_again(data)
        method, head = manifest.method, manifest.head
        kind = json.dumps([method.name, method.config, head.kind, head.pooling], sort_keys=True)
        if manifest.task != task or kind not in self._kinds:
            self._kinds.add(kind)
            return None
        packed = self._moulds.cast(method_of(manifest), spec_of(head), tensors)
        return Stored(task, record, manifest, packed)

    def _examined(self, task: str, record: VersionRecord, data: bytes) -> Stored:
        """Raises Refused."""
        candidate = examine(
            data,
            self._backbone,
            task=task,
            limits=self._limits,
            num_probes=self._num_probes,
            moulds=self._moulds,
        )
        return Stored(task, record, candidate.manifest, candidate.packed, candidate)

    # ---- on the device

    async def _load_group(self, outcomes: Iterable[_Outcome]) -> bool:
        """Install, replay, make visible; False, and nothing is loaded, if a proven one is not reproduced."""
        read: list[Stored] = []
        for (task, record), outcome in outcomes:
            if isinstance(outcome, str):
                self._skip(task, record, outcome)
            else:
                read.append(outcome)
        installed = await self._install(read)
        refused = await self._replay([one for one in installed if one[0].candidate is not None])
        if any(self._is_proven(digest) for digest in refused):
            for _, placement in installed:
                self._give_back(placement.slot)
            return False
        for stored, placement in installed:
            reason = refused.get(stored.record.digest)
            if reason is None:
                self._show(stored, placement)
            else:
                self._give_back(placement.slot)
                self._skip(stored.task, stored.record, reason)
        self._remember([one for one, _ in installed if one.record.digest not in refused])
        return True

    async def _install(self, read: Sequence[Stored]) -> list[_Installed]:
        """Those that fit, with their places."""
        packed = [one.packed for one in read]
        places = await asyncio.wrap_future(self._engine.call(lambda model: _install_all(model, packed)))
        installed: list[_Installed] = []
        for one, place in zip(read, places, strict=True):
            if isinstance(place, Exception):  # no memory, most likely; those that fit are served
                self._skip(one.task, one.record, f"it could not be installed: {place}")
            else:
                installed.append((one, place))
        return installed

    async def _replay(self, installed: Sequence[_Installed]) -> dict[str, str]:
        """Why versions are refused, by digest: their probes share batches, unless one breaks them."""
        try:
            return await self._replay_together(installed)
        except Exception:  # one of them breaks the pass: find out which
            log.exception("replaying probes together failed")
        refused: dict[str, str] = {}
        for one in installed:
            try:
                refused |= await self._replay_together([one])
            except Exception as error:
                reason = f"its probes could not be replayed: {type(error).__name__}"
                refused[one[0].record.digest] = reason
        return refused

    async def _replay_together(self, installed: Sequence[_Installed]) -> dict[str, str]:
        chosen = [
            (one.candidate, one.candidate.probes[: self._num_probes], placement)
            for one, placement in installed
            if one.candidate is not None
        ]
        batches = plan_probes(
            [(probes, placement) for _, probes, placement in chosen],
            neighbours=(),
            max_batch_tokens=self._max_batch_tokens,
            max_row_tokens=self._backbone.max_tokens,
        )
        found: list[Logits] = []
        for batch in batches:
            found += await asyncio.wrap_future(self._engine.call(partial(replay, batch=batch)))
        logits = iter(found)
        refused: dict[str, str] = {}
        for candidate, probes, _ in chosen:
            replayed = by_probe(probes, logits)
            try:
                compare(candidate, replayed, TOLERANCES[self._backbone.dtype])
            except Refused as error:
                self.num_not_reproduced += 1
                refused[candidate.digest] = str(error)
        return refused

    def _show(self, stored: Stored, placement: Placement) -> None:
        card = card_of(stored.manifest, stored.packed.spec, placement)
        resident = Resident(stored.task, stored.record.version, stored.record.digest, placement.slot, card)
        self._cache.add(resident)
        proof = self._proofs.of(stored.record.digest)
        if proof is not None and proof.word == "begun":
            self.unfinished.append(stored)

    def _remember(self, held: Iterable[Stored]) -> None:
        """That the probes of some were reproduced, at the least those that a start replays."""
        if not self._num_probes:
            return
        digests = [one.record.digest for one in held if one.candidate is not None]
        fresh = [digest for digest in digests if self._proofs.of(digest) is None]
        try:
            self._proofs.note("proven", *fresh)
        except OSError as error:  # it will be found again
            log.warning("what was proven could not be remembered", extra={"reason": str(error)})

    def _is_proven(self, digest: str) -> bool:
        proof = self._proofs.of(digest)
        return proof is not None and proof.word == "proven"

    def _skip(self, task: str, record: VersionRecord, reason: str) -> None:
        log.error("stored version skipped", extra={"task": task, "version": record.version, "reason": reason})
        self._cache.add_failed(task, record.version, reason)

    def _give_back(self, slot: int) -> None:
        try:
            self._engine.call(lambda model: model.remove(slot))
        except NotReady:  # the engine has stopped: the slot is gone with the model
            log.debug("slot not given back", extra={"slot": slot})


@contextmanager
def _no_collection() -> Iterator[None]:
    """What is read goes with the last reference to it; a collector would walk what stays again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _install_all(model: Model, packed: Sequence[PackedAdapter]) -> list[Placement | Exception]:
    """Where each sits; or why it could not be installed."""
    try:
        return [model.placement(slot) for slot in model.install_all(packed)]
    except Exception as error:  # one of them, or all together are too many: those that fit are served
        log.warning("stored versions are installed one by one", extra={"reason": str(error)})
    placed: list[Placement | Exception] = []
    for one in packed:
        try:
            placed.append(model.placement(model.install(one)))
        except Exception as error:
            placed.append(error)
    return placed
