"""The running service: its parts, its phase (starting, ready, draining, failed) and how one becomes the next.

Knows which part is built from what; it knows no routes. Everything heavy is imported and built off the event
loop, so that the process answers `/live` from the first moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Literal

from .engine.engine import Engine
from .engine.request import Row
from .engine.scheduler import Scheduler
from .engine.tokenizer import Tokenizer
from .errors import Draining, NotReady
from .metrics import Metrics
from .number_format import FLOAT32, NumberFormat
from .settings import Settings
from .threads import Chosen, DevicePool, alone_up_to, choose, have_one, look, now

if TYPE_CHECKING:
    from modeling import ServedModel

    from .residency.catalog import Catalog

Phase = Literal["starting", "ready", "draining", "failed"]

log = logging.getLogger(__name__)

# A row waits for the pass before it: on a CPU a pass of this size takes some hundred milliseconds.
_BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}
# One request counts at most this share of the queue, so that no bulk job closes it for others.
_SHARES = 8
_WARM_UP_ROWS = 64
_TRIED_ROW_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Parts:
    """What exists once the backbone is loaded."""

    model: ServedModel
    engine: Engine
    tokenizer: Tokenizer
    catalog: Catalog
    device: str
    pool: DevicePool
    number_format: NumberFormat
    max_batch_tokens: int
    max_new_tokens: int


class Service:
    """One process's service. `on_loading` is called on the device thread before the backbone is loaded,
    `on_started` is told once whether it could start.
    """

    def __init__(
        self,
        settings: Settings,
        token: str | None,
        on_started: Callable[[bool], None] | None = None,
        on_loading: Callable[[], None] | None = None,
    ) -> None:
        self.settings, self.token = settings, token
        self.metrics = Metrics(max_tasks=settings.max_metric_tasks)
        self.phase: Phase = "starting"
        self.reason = "the backbone is being loaded"
        self.num_in_flight = 0  # requests other than health checks
        self.started_s = time.monotonic()
        self._used = now()
        self.answering = ThreadPoolExecutor(2, thread_name_prefix="answers")
        self._on_started, self._on_loading = on_started or (lambda _: None), on_loading or (lambda: None)
        self._engine: Engine | None = None
        self._tokenizer: Tokenizer | None = None
        self._parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        """Everything that exists only once the service is ready. Raises NotReady, Draining."""
        if self._parts is None or self.phase in ("starting", "failed"):
            raise NotReady(f"the service is not ready: {self.reason}")
        if self.phase == "draining":
            raise Draining("the service is stopping; send the request to another one")
        return self._parts

    async def start(self) -> None:
        """Load the backbone and the stored adapters, warm up, become ready."""
        try:
            parts = await self._filled(await self._build(self.settings.dtype))
            self.reason = "the first passes are run"
            await self._warm_up(parts)
        except Exception as error:
            if self.phase == "draining":  # stopped in the middle: that is no failure
                return
            self.phase, self.reason = "failed", f"{type(error).__name__}: {error}"
            # A backbone that cannot be used is no bug: its reason says all. By name, because what failed may
            # be the import of modeling.
            trace = None if type(error).__name__ == "BackboneError" else error
            log.error("the service cannot start", exc_info=trace, extra={"reason": self.reason})
            self._on_started(False)
            return
        self._on_started(True)
        if parts.catalog.read_only is not None:
            told = {"store": str(self.settings.store), "reason": parts.catalog.read_only}
            log.warning("the store is read-only: what it holds is served, changes are refused", extra=told)
        self._parts = parts
        self._watch(parts)
        if self.phase == "starting":
            self.phase, self.reason = "ready", ""
        seconds = round(time.monotonic() - self.started_s, 3)
        log.info(
            "ready", extra={"seconds": seconds, "adapters": len(parts.catalog.cache), "device": parts.device}
        )

    def drain(self) -> None:
        """Accept nothing more; what was accepted is finished."""
        if self.phase in ("starting", "ready"):
            self.phase, self.reason = "draining", "the service is stopping"
            log.info("draining", extra={"in_flight": self.num_in_flight})

    async def drained(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; False if that took too long."""
        deadline_s = time.monotonic() + timeout_s
        while self.num_in_flight and time.monotonic() < deadline_s:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
        return self.num_in_flight == 0

    async def stop(self) -> None:
        """End the threads; queued rows are finished first."""
        self.drain()
        if self._parts is not None:
            await self._parts.catalog.stop()
        if self._engine is not None:
            ended = await asyncio.to_thread(self._engine.stop, self.settings.drain_timeout_s)
            if not ended:
                log.error("the device thread did not end in time")
        if self._tokenizer is not None:
            self._tokenizer.close()
        self.answering.shutdown(wait=False, cancel_futures=True)

    async def _filled(self, parts: Parts) -> Parts:
        """The parts with all stored versions; anew in float32 where some object to a format on trial."""
        self.reason = "the stored adapters are being loaded"
        await parts.catalog.load_all()
        lost = parts.catalog.num_not_reproduced
        if lost and parts.number_format.tried:
            why = f"in {parts.number_format.name} the probes of {lost} stored versions are not reproduced"
            log.warning("the number format is given up", extra={"reason": why})
            await parts.catalog.stop()
            await asyncio.to_thread(parts.engine.stop, self.settings.drain_timeout_s)
            parts.tokenizer.close()
            parts = replace(await self._build(FLOAT32), number_format=NumberFormat(FLOAT32, why))
            await parts.catalog.load_all()
        log.info("number format", extra={"number_format": asdict(parts.number_format)})
        return parts

    async def _build(self, dtype: str) -> Parts:
        from adapters_store import AdapterStore

        settings = self.settings
        device = await asyncio.to_thread(_device, settings)
        pool = DevicePool(choose(look(self._used), os.environ, settings.device_threads))
        _keep_to_one_pool()
        max_batch_tokens = settings.max_batch_tokens or _BATCH_TOKENS[device]
        scheduler: Scheduler[Row] = Scheduler(
            max_batch_tokens=max_batch_tokens,
            max_batch_rows=settings.max_batch_rows,
            max_waiting_tokens=settings.max_waiting_tokens,
            max_charge_tokens=max(1, settings.max_waiting_tokens // _SHARES),
        )
        engine = self._engine = Engine(scheduler, self.metrics, pool)
        model, number_format = await _load(engine, settings, device, dtype, self._on_loading)
        backbone = model.backbone
        tokenizer = self._tokenizer = Tokenizer(
            backbone.text,
            engine,
            self.metrics,
            num_threads=settings.tokenizer_threads,
            max_text_chars=settings.max_text_chars,
        )
        store = await asyncio.to_thread(AdapterStore, settings.store)
        from .residency.catalog import Catalog  # only now: it imports modeling, which a thread has done

        catalog = Catalog(
            store,
            backbone,
            engine,
            self.metrics,
            max_adapter_bytes=settings.max_adapter_bytes,
            max_adapters=settings.max_adapters,
            max_batch_tokens=max_batch_tokens,
            startup_probes=settings.startup_probes,
        )
        max_new_tokens = min(settings.max_new_tokens, backbone.max_tokens)  # a decoder has positions too
        return Parts(
            model, engine, tokenizer, catalog, device, pool, number_format, max_batch_tokens, max_new_tokens
        )

    async def _warm_up(self, parts: Parts) -> None:
        """The longest row and a batch of many residents, so that no request pays for being the first."""
        text, limit = parts.model.backbone.text, parts.model.backbone.max_tokens
        longest = text.encode(["warm " * limit], min(limit, parts.max_batch_tokens))
        short = text.encode(["a text to warm up with"])
        room = limit - len(short[0])
        placements = [resident.card.placement for resident in parts.catalog.cache]
        mixing = [one for one in placements if not one.exclusive and one.virtual_tokens <= room]
        slots = [0, *(one.body_slot for one in mixing)][:_WARM_UP_ROWS]
        for encoded, body_slots in ((longest, [0]), (short * len(slots), slots)):
            await asyncio.wrap_future(parts.engine.call(methodcaller("run", encoded, body_slots, [])))
        if parts.device == "cpu" and not parts.pool.chosen.given:
            parts.pool.chosen = await asyncio.wrap_future(parts.engine.call(partial(_tried, parts.pool)))
        log.info("threads", extra={"threads": asdict(parts.pool.chosen)})

    def _watch(self, parts: Parts) -> None:
        scheduler = parts.engine.scheduler
        self.metrics.waiting_rows.set_function(lambda: scheduler.waiting_rows)
        self.metrics.waiting_tokens.set_function(lambda: scheduler.waiting_tokens)
        self.metrics.open_requests.set_function(lambda: scheduler.num_open)
        self.metrics.resident_adapters.set_function(lambda: parts.model.num_resident)
        self.metrics.resident_bytes.set_function(lambda: parts.model.nbytes)
        self.metrics.recorded_passes.set_function(lambda: parts.model.num_recorded)


def _device(settings: Settings) -> str:
    """The device that `auto` means on this machine; also the first import of torch."""
    import torch

    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device


def _keep_to_one_pool() -> None:
    """Only the device thread computes with several threads: a second pool would take the cores from it."""
    have_one()
    asyncio.get_running_loop().set_default_executor(
        ThreadPoolExecutor(thread_name_prefix="work", initializer=have_one)
    )


def _tried(pool: DevicePool, model: ServedModel) -> Chosen:
    """On the device thread: what was chosen, with the size of passes that one thread runs as fast."""
    (word,) = model.backbone.text.encode(["a few words of a text to warm up"], _TRIED_ROW_TOKENS)

    def seconds(number: int, tokens: int) -> float:
        pool.set(number)
        rows = [word] * (tokens // len(word))
        started_s = time.perf_counter()
        model.run(rows, [0] * len(rows), [])
        return time.perf_counter() - started_s

    return replace(pool.chosen, alone_tokens=alone_up_to(seconds, pool.chosen.number))


async def _load(
    engine: Engine, settings: Settings, device: str, dtype: str, on_loading: Callable[[], None]
) -> tuple[ServedModel, NumberFormat]:
    """Load the backbone on the device thread, which alone will use it."""
    found: list[NumberFormat] = []

    def build() -> ServedModel:
        from modeling import ServedModel, recorded_or_fast

        from . import number_format

        on_loading()
        backbone, chosen = number_format.load(settings.backbone, device, dtype)
        found.append(chosen)
        if settings.record_passes:
            return ServedModel(backbone, path_of=recorded_or_fast)
        return ServedModel(backbone)

    model = await asyncio.wrap_future(engine.start(build))
    return model, found[0]
