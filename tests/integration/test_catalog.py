"""The catalog without HTTP: what is replayed at the start, and one order of changes in store and mirror."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters_store import AdapterStore, Published, TaskState, write_adapter
from modeling import Backbone, ServedModel
from service.engine.engine import Engine
from service.engine.request import Row
from service.engine.scheduler import Scheduler
from service.metrics import Metrics
from service.residency.cache import FailedReference
from service.residency.catalog import Catalog
from tests.integration.world import adapter_of, file_of, manifest_of, tiny

NUM_PROBES = 8


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Backbone, ServedModel, Engine]]:
    """A model on a device thread; each test removes what it installed."""
    limits = {"max_batch_tokens": 512, "max_batch_rows": 64, "max_waiting_tokens": 10_000}
    scheduler: Scheduler[Row] = Scheduler(**limits, max_charge_tokens=1000)
    backbone = tiny()
    model, engine = ServedModel(backbone), Engine(scheduler, Metrics())
    engine.start(lambda: model).result(20)
    yield backbone, model, engine
    assert engine.stop(20)


def limited(store: AdapterStore, backbone: Backbone, engine: Engine, **limits: int) -> Catalog:
    usual = {"max_adapter_bytes": 2**20, "max_adapters": 100, "max_batch_tokens": 512, "startup_probes": 1}
    return Catalog(store, backbone, engine, Metrics(), **(usual | limits))


def listed(catalog: Catalog) -> list[TaskState]:
    """Every task."""
    states, following = catalog.page("", 1_000, "")
    assert following is None
    return states


@pytest.fixture
def catalog_of(served: tuple[Backbone, ServedModel, Engine]) -> Iterator[Callable[..., Catalog]]:
    backbone, _, engine = served
    made: list[Catalog] = []

    def build(store: AdapterStore, startup_probes: int = NUM_PROBES) -> Catalog:
        made.append(limited(store, backbone, engine, startup_probes=startup_probes))
        return made[-1]

    yield build
    for catalog in made:
        for state in listed(catalog):
            catalog.cache.retire_task(state.task)


def with_probe(backbone: Backbone, index: int, seed: int = 0) -> bytes:
    """A sound file but for one probe, whose first logit is 0.01 off."""
    adapter = adapter_of(backbone, "mood", seed)
    manifest = manifest_of(backbone, "mood", adapter)
    probes = [*manifest.probes]
    first, *others = probes[index].logits
    probes[index] = probes[index].model_copy(update={"logits": [first + 0.01, *others]})
    return write_adapter(manifest.model_copy(update={"probes": probes}), adapter.to_tensors())


# ---- the start


@pytest.mark.parametrize(
    ("wrong", "startup_probes", "is_served"),
    [(0, 1, False), (0, 8, False), (5, 8, False), (5, 5, True), (0, 0, True)],
)
def test_a_stored_version_whose_probes_differ_is_skipped_at_the_start(
    served: tuple[Backbone, ServedModel, Engine],
    catalog_of: Callable[..., Catalog],
    tmp_path: Path,
    wrong: int,
    startup_probes: int,
    is_served: bool,
) -> None:
    backbone, model, engine = served
    store = AdapterStore(tmp_path / "store")
    store.publish("mood", with_probe(backbone, wrong))
    store.publish("topic", file_of(backbone, "topic"))
    before = model.num_resident
    catalog = catalog_of(store, startup_probes)
    asyncio.run(catalog.load_all())
    engine.call(lambda _: None).result(20)
    assert catalog.cache.get("topic", 1) is not None
    assert (catalog.cache.get("mood", 1) is not None) == is_served
    assert model.num_resident - before == (2 if is_served else 1)
    if not is_served:
        reason = catalog.cache.failure("mood", 1)
        assert reason is not None
        assert f"1 of {startup_probes} probes are not reproduced: probes.{wrong}" in reason
        with pytest.raises(FailedReference, match="not reproduced"):
            catalog.cache.acquire("mood")
    assert [state.task for state in listed(catalog)] == ["mood", "topic"]


def test_one_that_breaks_the_pass_is_found_out_alone(
    served: tuple[Backbone, ServedModel, Engine],
    catalog_of: Callable[..., Catalog],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, model, engine = served
    store = AdapterStore(tmp_path / "store")
    for task in ("mood", "tags", "topic"):
        store.publish(task, file_of(backbone, task))
    run, install_all, before = model.run, model.install_all, model.num_resident
    slots: list[int] = []

    def remember(many: Any) -> list[int]:
        slots.extend(install_all(many))
        return slots

    def fail(encoded: Any, body_slots: Any, reads: Any) -> Any:
        if slots[1] in body_slots:  # where `tags` sits
            raise RuntimeError("device said no")
        return run(encoded, body_slots, reads)

    monkeypatch.setattr(model, "install_all", remember)
    monkeypatch.setattr(model, "run", fail)
    catalog = catalog_of(store)
    asyncio.run(catalog.load_all())
    engine.call(lambda _: None).result(20)
    assert sorted(resident.task for resident in catalog.cache) == ["mood", "topic"]
    assert catalog.cache.failure("tags", 1) == "its probes could not be replayed: RuntimeError"
    assert model.num_resident == before + 2


# ---- one order of changes


class SlowStore(AdapterStore):
    """Its method `slow` returns only when it may, after its commit."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.slow = ""
        self.committed, self.may_return = threading.Event(), threading.Event()

    def _returned(self, name: str) -> None:
        if name == self.slow:
            self.committed.set()
            assert self.may_return.wait(20)

    def publish(self, task: str, data: bytes, *, alias: str | None = "production") -> Published:
        published = super().publish(task, data, alias=alias)
        self._returned("publish")
        return published

    def set_alias(
        self, task: str, alias: str, version: int, *, expect_revision: int | None = None
    ) -> TaskState:
        state = super().set_alias(task, alias, version, expect_revision=expect_revision)
        self._returned("set_alias")
        return state

    def rollback(self, task: str) -> TaskState:
        state = super().rollback(task)
        self._returned("rollback")
        return state

    def task(self, name: str) -> TaskState:
        """Asked for after a version was deleted."""
        state = super().task(name)
        self._returned("task")
        return state

    def delete_task(self, task: str) -> None:
        super().delete_task(task)
        self._returned("delete_task")


Change = Callable[[Catalog, Backbone], Coroutine[Any, Any, Any]]
CHANGES: dict[str, Change] = {
    "publish": lambda catalog, backbone: catalog.upload("mood", file_of(backbone, "mood", 3), alias="canary"),
    "set_alias": lambda catalog, _: catalog.set_alias("mood", "canary", 1, None),
    "rollback": lambda catalog, _: catalog.rollback("mood"),
    "task": lambda catalog, _: catalog.delete_version("mood", 1),
    "delete_task": lambda catalog, _: catalog.delete_task("mood"),
}
SECOND: dict[str, Change] = {
    "an alias": lambda catalog, _: catalog.set_alias("mood", "other", 2, None),
    "an upload": lambda catalog, backbone: catalog.upload(
        "mood", file_of(backbone, "mood", 4), alias="other"
    ),
}


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND)
@pytest.mark.parametrize("slow", CHANGES)
def test_a_change_waits_until_the_mirror_has_the_one_before(
    served: tuple[Backbone, ServedModel, Engine],
    catalog_of: Callable[..., Catalog],
    tmp_path: Path,
    slow: str,
    second: Change,
) -> None:
    """Else the older state would be mirrored last, over the newer one."""
    backbone, _, _ = served
    store = SlowStore(tmp_path / "store")
    for seed in (1, 2):
        store.publish("mood", file_of(backbone, "mood", seed))
    catalog = catalog_of(store)

    async def both() -> None:
        await catalog.load_all()
        store.slow = slow
        first = asyncio.create_task(CHANGES[slow](catalog, backbone))
        assert await asyncio.to_thread(store.committed.wait, 20)
        store.slow = ""
        next_ = asyncio.create_task(second(catalog, backbone))
        await asyncio.wait({next_}, timeout=0.3)  # without a lock it is over long before
        assert not next_.done()
        store.may_return.set()
        await first
        await asyncio.gather(next_, return_exceptions=slow == "delete_task")

    asyncio.run(both())
    assert listed(catalog) == store.tasks()
    state = next(iter(listed(catalog)), None)
    for alias, version in (state.aliases if state else {}).items():
        assert catalog.cache.acquire(f"mood@{alias}").resident.version == version


def test_an_upload_that_fails_leaves_its_slot_and_its_number(
    served: tuple[Backbone, ServedModel, Engine],
    catalog_of: Callable[..., Catalog],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, model, _ = served
    store = AdapterStore(tmp_path / "store")
    catalog = catalog_of(store)
    before = model.num_resident

    def fail(*_: object, **__: object) -> Published:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "publish", fail)
        with pytest.raises(OSError, match="disk full"):
            asyncio.run(catalog.upload("mood", file_of(backbone, "mood"), alias=None))
    assert model.num_resident == before
    assert listed(catalog) == []
    published, _, probes = asyncio.run(catalog.upload("mood", file_of(backbone, "mood"), alias=None))
    assert (published.version, probes.count) == (1, NUM_PROBES)
    assert model.num_resident == before + 1


def test_the_last_allowed_adapter_may_come_and_uploads_under_way_count(
    served: tuple[Backbone, ServedModel, Engine], tmp_path: Path
) -> None:
    from service.errors import RegistryFull

    backbone, _, engine = served
    store = SlowStore(tmp_path / "store")
    catalog = limited(store, backbone, engine, max_adapters=2)

    async def run() -> None:
        await catalog.upload("mood", file_of(backbone, "mood", 1), alias=None)
        store.slow = "publish"
        second = asyncio.create_task(catalog.upload("mood", file_of(backbone, "mood", 2), alias=None))
        assert await asyncio.to_thread(store.committed.wait, 20)
        with pytest.raises(RegistryFull, match="1 adapters are resident; allowed: 2"):
            await catalog.upload("mood", file_of(backbone, "mood", 3), alias=None)
        store.may_return.set()
        await second
        with pytest.raises(RegistryFull):
            await catalog.upload("mood", file_of(backbone, "mood", 3), alias=None)
        await catalog.delete_task("mood")

    asyncio.run(run())
    assert len(catalog.cache) == 0
