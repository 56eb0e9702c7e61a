"""Probes that are replayed after a version became visible: one at a time, with pauses, beside requests.

If one is not reproduced the version is withdrawn. What is left when the process ends is done after the next
start: until then the store remembers that it was begun.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from adapters_store.proofs import Proofs
from proof.candidate import Candidate
from proof.errors import Refused

from ..engine.request import ServingCard
from ..errors import ItemFailed, NotReady, Overloaded
from .cache import AdapterCache, FailedReference, Resident, UnknownReference
from .proving import Prover

log = logging.getLogger(__name__)

PROBES_TOGETHER = 1
_REST = 4  # after some probes, times as long as they took: then they are a small part of what runs
_MAX_REST_S = 1.0
_PAUSE_S = 0.25  # when the queue is full, or a probe could not be computed
_MAX_ATTEMPTS = 3  # to compute one

Withdraw = Callable[[Resident[ServingCard], str], Awaitable[None]]


class Remaining:
    """What is still to be replayed, one task of the event loop for each version."""

    def __init__(
        self, prover: Prover, cache: AdapterCache[ServingCard], proofs: Proofs, withdraw: Withdraw
    ) -> None:
        self._prover, self._cache, self._proofs, self._withdraw = prover, cache, proofs, withdraw
        self._running: dict[str, asyncio.Task[None]] = {}  # by digest

    def start(self, resident: Resident[ServingCard], candidate: Candidate, numbers: Sequence[int]) -> None:
        """Begin with these probes of a resident version; returns at once."""
        if resident.digest not in self._running:
            task = asyncio.create_task(self.finish(resident, candidate, numbers))
            self._running[resident.digest] = task
            task.add_done_callback(lambda _: self._running.pop(resident.digest, None))

    async def finish(
        self, resident: Resident[ServingCard], candidate: Candidate, numbers: Sequence[int]
    ) -> None:
        """Replay these, then remember that the file is proven, or have the version withdrawn."""
        try:
            if numbers and not await self._replay(resident, candidate, numbers):
                return
        except (Refused, ItemFailed) as error:
            await self._withdraw(resident, str(error))
            return
        except NotReady:  # the service stops
            return
        try:
            await asyncio.to_thread(self._proofs.note, "proven", resident.digest)
        except OSError as error:  # it is found again
            log.warning("what was proven could not be remembered", extra={"reason": str(error)})

    async def stop(self) -> None:
        """End what is under way."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _replay(
        self, resident: Resident[ServingCard], candidate: Candidate, numbers: Sequence[int]
    ) -> bool:
        """Whether all were reproduced; False if the version was deleted meanwhile."""
        try:
            lease = self._cache.acquire(f"{resident.task}@{resident.version}")
        except (UnknownReference, FailedReference):
            return False
        try:
            for first in range(0, len(numbers), PROBES_TOGETHER):
                if lease.resident is not resident or resident.retired:
                    return False
                began_s = time.perf_counter()
                await self._some(resident, candidate, numbers[first : first + PROBES_TOGETHER])
                await asyncio.sleep(min(_MAX_REST_S, _REST * (time.perf_counter() - began_s)))
        finally:
            self._cache.release(lease)
        return True

    async def _some(
        self, resident: Resident[ServingCard], candidate: Candidate, numbers: Sequence[int]
    ) -> None:
        """Raises Refused; ItemFailed if it was tried several times."""
        attempt = 0
        while True:
            try:
                await self._prover.replay(candidate, resident.card, numbers)
                return
            except Overloaded:
                pass
            except ItemFailed:
                attempt += 1
                if attempt == _MAX_ATTEMPTS:
                    raise
            await asyncio.sleep(_PAUSE_S)
