"""Uploads in turns: eight probes before a version is visible, the others after; a failure withdraws it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters_store import AdapterStore, Probe, write_adapter
from adapters_store.proofs import Proof
from modeling import Backbone, ServedModel
from proof.candidate import Candidate
from proof.circumstances import circumstances
from proof.errors import Refused
from service.engine.engine import Engine
from service.engine.request import Column, Job, Row, ServingCard
from service.engine.scheduler import Scheduler
from service.errors import ItemFailed, Overloaded
from service.metrics import Metrics
from service.residency import remaining
from service.residency.cache import FailedReference
from service.residency.catalog import Catalog
from service.residency.proving import Prover
from tests.integration.world import TEXTS, adapter_of, file_of, logits_alone, manifest_of, tiny
from tests.unit.service.fakes import value_of

NUM_PROBES = 13


class World:
    """A store, and a model on a device thread that remembers how many rows of which slots it ran together."""

    def __init__(self, root: Path) -> None:
        limits = {"max_batch_tokens": 512, "max_batch_rows": 64, "max_waiting_tokens": 10_000}
        self.scheduler: Scheduler[Row] = Scheduler(**limits, max_charge_tokens=1000)
        self.root, self.backbone, self.metrics = root, tiny(), Metrics()
        self.author = tiny()  # files are made while the other one runs
        self.model, self.engine = ServedModel(self.backbone), Engine(self.scheduler, Metrics())
        self.batches: list[list[int]] = []
        run = self.model.run

        def noted(encoded: Any, body_slots: Any, reads: Any) -> Any:
            self.batches.append(list(body_slots))
            return run(encoded, body_slots, reads)

        self.model.run = noted  # type: ignore[method-assign]
        self.engine.start(lambda: self.model).result(20)

    @property
    def store(self) -> AdapterStore:
        return AdapterStore(self.root)

    def catalog(self) -> Catalog:
        limits = {"max_adapter_bytes": 2**20, "max_adapters": 100, "max_batch_tokens": 512}
        store = self.store
        return Catalog(store, self.backbone, self.engine, self.metrics, **limits, startup_probes=2)

    def proof(self, digest: str) -> Proof | None:
        """What a new process would know of a file."""
        return self.store.proofs(circumstances(self.backbone)).of(digest)

    def run(self, what: Callable[[Catalog], Coroutine[Any, Any, None]]) -> Catalog:
        """A process: a start, then `what`."""
        catalog = self.catalog()

        async def live() -> None:
            await catalog.load_all()
            await what(catalog)
            await catalog.stop()

        asyncio.run(live())
        return catalog


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "store")
    yield made
    assert made.engine.stop(20)


async def settled(world: World, digest: str) -> Proof:
    """Once all is done that an upload leaves to be done."""
    async with asyncio.timeout(20):
        while (proof := world.proof(digest)) is None or proof.word == "begun":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.02)  # what follows the note
    return proof


def with_probes(
    backbone: Backbone, task: str, *, seed: int = 0, wrong: int | None = None, count: int = NUM_PROBES
) -> bytes:
    """A file with more probes than are replayed before it is visible; one may be wrong."""
    adapter = adapter_of(backbone, task, seed)
    manifest = manifest_of(backbone, task, adapter)
    texts = sorted(TEXTS[20 : 20 + count], key=lambda text: len(text.split()))  # as they are replayed
    probes = [Probe(text=text, logits=logits_alone(backbone, adapter, text)) for text in texts]
    if wrong is not None:
        first, *others = probes[wrong].logits
        probes[wrong] = probes[wrong].model_copy(update={"logits": [first + 0.01, *others]})
    return write_adapter(manifest.model_copy(update={"probes": probes}), adapter.to_tensors())


def nothing_more(world: World, catalog: Catalog) -> None:
    """No slot, no lease and no row is left behind."""
    world.engine.call(lambda _: None).result(20)
    assert world.model.num_resident == len(catalog.cache)
    assert catalog.cache.num_leases == world.scheduler.num_open == world.scheduler.waiting_rows == 0


def test_eight_probes_before_a_version_is_visible_and_the_others_after(world: World) -> None:
    data = with_probes(world.author, "mood")

    async def upload(catalog: Catalog) -> None:
        published, _, report = await catalog.upload("mood", data, alias="production")
        assert (published.version, report.count, report.pending) == (1, 8, NUM_PROBES - 8)
        assert len(world.batches) == 1, "one mixed batch"
        slot = catalog.cache.acquire("mood").resident.slot
        assert world.batches[0].count(slot) == 8
        assert 0 in world.batches[0]
        assert world.proof(published.digest) == Proof("begun")
        assert (await settled(world, published.digest)).word == "proven"
        assert sum(batch.count(slot) for batch in world.batches) == NUM_PROBES
        again, _, report = await catalog.upload("mood", data, alias="production")
        assert (again.created, report.count, report.pending) == (False, 8, 0)

    world.run(upload)


def test_a_probe_that_fails_later_withdraws_the_version(world: World, caplog: Any) -> None:
    good, bad = file_of(world.author, "mood"), with_probes(world.author, "mood", seed=1, wrong=11)

    async def upload(catalog: Catalog) -> None:
        await catalog.upload("mood", good, alias="production")
        published, _, _ = await catalog.upload("mood", bad, alias="production")
        assert published.state.aliases == {"production": 2, "previous": 1}
        lease = catalog.cache.acquire("mood")
        assert lease.resident.version == 2
        assert (await settled(world, published.digest)).word == "refused"
        assert catalog.cache.acquire("mood").resident.version == 1
        assert world.model.num_resident == 2, "a request still uses it"
        catalog.cache.release(lease)
        assert catalog.task("mood").aliases == {"production": 1}

    with caplog.at_level(logging.ERROR):
        catalog = world.run(upload)
    assert "version withdrawn" in caplog.text
    assert value_of(world.metrics, 'trunkline_uploads_total{outcome="withdrawn"}') == 1
    assert world.store.task("mood").aliases == {"production": 1}
    reason = catalog.cache.failure("mood", 2)
    assert reason is not None
    assert reason.startswith("withdrawn: 1 of 1 probes are not reproduced: probes.11")
    world.batches.clear()

    async def look(catalog: Catalog) -> None:
        assert catalog.cache.failure("mood", 2) == reason
        assert catalog.cache.acquire("mood").resident.version == 1
        with pytest.raises(Refused, match=r"probes\.11"):  # all of them, before it is visible
            await catalog.upload("mood", bad, alias="production")
        assert catalog.task("mood").aliases == {"production": 1}

    world.run(look)


def test_the_only_version_of_a_task_is_withdrawn_with_its_reason(world: World) -> None:
    bad = with_probes(world.author, "mood", wrong=8)

    async def upload(catalog: Catalog) -> None:
        published, _, _ = await catalog.upload("mood", bad, alias="production")
        await settled(world, published.digest)
        with pytest.raises(FailedReference, match="withdrawn"):
            catalog.cache.acquire("mood")
        nothing_more(world, catalog)

    world.run(upload)


@pytest.mark.parametrize("wrong", [0, 7])
def test_a_probe_that_fails_before_leaves_nothing(world: World, wrong: int) -> None:
    async def upload(catalog: Catalog) -> None:
        with pytest.raises(Refused, match=rf"probes\.{wrong}"):
            await catalog.upload("mood", with_probes(world.author, "mood", wrong=wrong), alias=None)
        nothing_more(world, catalog)

    assert world.run(upload).page("", 1_000, "")[0] == world.store.tasks() == []


@pytest.mark.parametrize("wrong", [None, 12])
def test_what_a_kill_cut_off_is_done_after_the_next_start(world: World, wrong: int | None) -> None:
    good, new = file_of(world.author, "mood"), with_probes(world.author, "mood", seed=1, wrong=wrong)

    async def upload(catalog: Catalog) -> None:
        await catalog.upload("mood", good, alias="production")
        await catalog.upload("mood", new, alias="production")  # and nothing after it

    world.run(upload)
    digest = world.store.resolve("mood@2").digest
    assert world.proof(digest) == Proof("begun")

    async def wait(catalog: Catalog) -> None:
        assert catalog.cache.acquire("mood").resident.version == 2
        await settled(world, digest)
        assert catalog.cache.acquire("mood").resident.version == (2 if wrong is None else 1)

    world.run(wait)
    proof = world.proof(digest)
    assert proof is not None
    assert proof.word == ("proven" if wrong is None else "refused")


def test_probes_share_batches_with_the_rows_of_others(world: World) -> None:
    """In turns: a row of one, a row of the other."""

    async def upload(catalog: Catalog) -> None:
        await catalog.upload("mood", file_of(world.author, "mood"), alias="production")
        resident = catalog.cache.acquire("mood").resident
        column = Column.empty(resident.slot, resident.card, 40, 2)
        job = Job(TEXTS[:40], [column], truncate=False)
        world.engine.open(job, 400)
        rows = []
        for item, encoded in enumerate(world.backbone.text.encode(TEXTS[:40])):
            rows.append(Row(job, item, encoded, resident.slot))
            rows[-1].read_by(0, column)
        world.batches.clear()
        world.engine.add(job, rows, last=True)
        await catalog.upload("topic", with_probes(world.author, "topic"), alias="production")
        await asyncio.wrap_future(job.done)

    catalog = world.run(upload)
    topic = catalog.cache.get("topic", 1)
    mood = catalog.cache.get("mood", 1)
    assert topic is not None
    assert mood is not None
    assert any(topic.slot in batch and mood.slot in batch for batch in world.batches)


def test_a_version_that_is_deleted_meanwhile_is_not_withdrawn(world: World) -> None:
    bad = with_probes(world.author, "mood", wrong=12)

    async def upload(catalog: Catalog) -> None:
        await catalog.upload("mood", bad, alias="canary")
        await catalog.delete_version("mood", 1)
        await asyncio.sleep(0.1)
        nothing_more(world, catalog)

    assert world.run(upload).page("", 1_000, "")[0] == []
    assert value_of(world.metrics, 'trunkline_uploads_total{outcome="withdrawn"}') == 0


def test_a_full_queue_refuses_an_upload_and_delays_what_follows_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remaining, "_PAUSE_S", 0.001)
    data = with_probes(world.author, "mood")
    full = True
    open_ = world.engine.open

    def opened(job: Job, estimate_tokens: int) -> None:
        nonlocal full
        full = not full
        if not full:
            raise Overloaded("full")
        open_(job, estimate_tokens)

    monkeypatch.setattr(world.engine, "open", opened)

    async def upload(catalog: Catalog) -> None:
        with pytest.raises(Overloaded):
            await catalog.upload("mood", data, alias="production")
        nothing_more(world, catalog)
        published, _, _ = await catalog.upload("mood", data, alias="production")
        assert (await settled(world, published.digest)).word == "proven"

    world.run(upload)


@pytest.mark.parametrize(("num_failures", "word"), [(2, "proven"), (3, "refused")])
def test_a_probe_that_cannot_be_computed_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, num_failures: int, word: str
) -> None:
    monkeypatch.setattr(remaining, "_PAUSE_S", 0.001)

    replay, left = Prover.replay, num_failures

    async def fail(
        self: Prover, candidate: Candidate, card: ServingCard, numbers: Sequence[int], *rest: Any
    ) -> Any:
        nonlocal left
        if numbers[0] >= 8 and left:
            left -= 1
            raise ItemFailed("device said no", "internal")
        return await replay(self, candidate, card, numbers, *rest)

    monkeypatch.setattr(Prover, "replay", fail)

    async def upload(catalog: Catalog) -> None:
        published, _, _ = await catalog.upload("mood", with_probes(world.author, "mood"), alias=None)
        assert (await settled(world, published.digest)).word == word

    world.run(upload)


def test_a_probe_that_cannot_be_computed_refuses_an_upload(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("device said no")

    async def upload(catalog: Catalog) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(world.model, "run", fail)
            with pytest.raises(ItemFailed, match="probe 0 could not be computed"):
                await catalog.upload("mood", with_probes(world.author, "mood"), alias=None)
        nothing_more(world, catalog)

    assert world.run(upload).page("", 1_000, "")[0] == []
