"""What a start remembers: what was proven is not replayed again, and nothing else is trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters_store import AdapterStore, write_adapter
from modeling import Backbone, ServedModel
from proof.circumstances import circumstances
from service.engine.engine import Engine
from service.engine.request import Row
from service.engine.scheduler import Scheduler
from service.metrics import Metrics
from service.residency import catalog as catalog_module
from service.residency import loading
from service.residency.catalog import Catalog
from tests.integration.world import adapter_of, file_of, manifest_of, tiny

TASKS = ("mood", "same", "topic", "urgency")  # `mood` and `same` are of one kind
STARTUP_PROBES = 2


class World:
    """A store, and a model on a device thread that counts the rows that are run."""

    def __init__(self, root: Path) -> None:
        limits = {"max_batch_tokens": 512, "max_batch_rows": 64, "max_waiting_tokens": 10_000}
        scheduler: Scheduler[Row] = Scheduler(**limits, max_charge_tokens=1000)
        self.root, self.backbone = root, tiny()
        self.model, self.engine = ServedModel(self.backbone), Engine(scheduler, Metrics())
        self.num_rows = 0
        run = self.model.run

        def counted(encoded: Any, *rest: Any) -> Any:
            self.num_rows += len(encoded)
            return run(encoded, *rest)

        self.model.run = counted  # type: ignore[assignment]
        self.engine.start(lambda: self.model).result(20)

    def start(self, startup_probes: int = STARTUP_PROBES) -> Catalog:
        """A start; `num_rows` are the rows that it replayed."""
        self.num_rows = 0
        catalog = Catalog(
            AdapterStore(self.root),
            self.backbone,
            self.engine,
            Metrics(),
            max_adapter_bytes=2**20,
            max_adapters=100,
            max_batch_tokens=512,
            startup_probes=startup_probes,
        )
        asyncio.run(catalog.load_all())
        return catalog


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "store")
    yield made
    assert made.engine.stop(20)


def served(catalog: Catalog) -> set[str]:
    return {resident.task for resident in catalog.cache}


def fill(world: World, **files: bytes) -> None:
    store = AdapterStore(world.root)
    for task in TASKS:
        store.publish(task, files.get(task) or file_of(world.backbone, task))


def with_wrong_probes(backbone: Backbone, task: str, index: int = 0) -> bytes:
    """A sound file but for one probe."""
    adapter = adapter_of(backbone, task)
    manifest = manifest_of(backbone, task, adapter)
    probes = [*manifest.probes]
    logits = [value + 0.01 for value in probes[index].logits]
    probes[index] = probes[index].model_copy(update={"logits": logits})
    return write_adapter(manifest.model_copy(update={"probes": probes}), adapter.to_tensors())


def test_of_what_was_proven_one_of_each_kind_is_replayed(world: World) -> None:
    fill(world)
    assert served(world.start()) == set(TASKS)
    assert world.num_rows == STARTUP_PROBES * len(TASKS)
    catalog = world.start()
    assert served(catalog) == set(TASKS)
    assert world.num_rows == STARTUP_PROBES * 3
    AdapterStore(world.root).publish("mood", file_of(world.backbone, "mood", 1))
    world.start()
    assert world.num_rows == STARTUP_PROBES * 4, "and one that nothing is known of"


def test_what_is_remembered_answers_as_before(world: World) -> None:
    fill(world)
    encoded = world.backbone.text.encode(["w1 w2 w3", "w4"])

    def answers(catalog: Catalog) -> list[list[float]]:
        found = []
        for task in TASKS:
            resident = catalog.cache.get(task, 1)
            assert resident is not None
            slot, body = resident.slot, resident.card.placement.body_slot
            logits = world.model.run(encoded, [body] * 2, [(0, slot), (1, slot)])
            found += [one.tolist() for one in logits]
        return found

    assert answers(world.start()) == answers(world.start())


def test_other_circumstances_prove_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world)
    world.start()
    monkeypatch.setattr(catalog_module, "circumstances", lambda backbone: "sha256:other")
    world.start()
    assert world.num_rows == STARTUP_PROBES * len(TASKS)


def test_bytes_that_rotted_after_they_were_proven_are_not_served(world: World) -> None:
    fill(world)
    world.start()
    digest = AdapterStore(world.root).resolve("same").digest
    path = world.root / "adapters" / f"{digest.replace(':', '-')}.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1  # one bit of a bias
    path.write_bytes(data)
    catalog = world.start()
    assert served(catalog) == set(TASKS) - {"same"}
    assert "does not have that digest" in str(catalog.cache.failure("same", 1))


@pytest.mark.parametrize("loaded_together", [1, 64])
def test_if_one_that_was_proven_does_not_hold_all_are_replayed(
    world: World, monkeypatch: pytest.MonkeyPatch, loaded_together: int
) -> None:
    monkeypatch.setattr(loading, "LOADED_TOGETHER", loaded_together)
    fill(world, mood=with_wrong_probes(world.backbone, "mood"))
    store = AdapterStore(world.root)
    proofs = store.proofs(circumstances(world.backbone))
    proofs.note("proven", *(store.resolve(task).digest for task in TASKS))
    before = world.model.num_resident
    catalog = world.start()
    assert served(catalog) == set(TASKS) - {"mood"}
    assert "probes.0" in str(catalog.cache.failure("mood", 1))
    world.engine.call(lambda _: None).result(20)
    assert world.model.num_resident == before + 3
    assert world.num_rows >= STARTUP_PROBES * len(TASKS)


def test_a_proven_file_under_the_name_of_another_task_is_refused(world: World) -> None:
    fill(world)
    world.start()
    AdapterStore(world.root).publish("topic", file_of(world.backbone, "urgency"))
    catalog = world.start()
    assert "manifest.task" in str(catalog.cache.failure("topic", 2))


def test_without_probes_at_the_start_nothing_is_proven(world: World) -> None:
    fill(world)
    world.start(startup_probes=0)
    world.start()
    assert world.num_rows == STARTUP_PROBES * len(TASKS)


def test_probes_that_are_not_replayed_are_not_tokenised(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world)
    tokenize, num_texts = world.backbone.text.tokenize, 0

    def counted(items: Any, **options: Any) -> Any:
        nonlocal num_texts
        num_texts += len(items)
        return tokenize(items, **options)

    monkeypatch.setattr(world.backbone.text, "tokenize", counted)
    world.start()
    assert num_texts == STARTUP_PROBES * len(TASKS)
    num_texts = 0
    world.start()
    assert num_texts == STARTUP_PROBES * 3


def test_circumstances_are_those_of_backbone_code_and_libraries(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = circumstances(backbone)
    assert circumstances(tiny()) == here
    assert circumstances(tiny(seed=1)) != here
    changes: list[tuple[Any, str, Any]] = [
        (backbone, "weights_digest", "sha256:0"),
        (backbone, "config_digest", "sha256:0"),
        (type(backbone.text), "digest", "sha256:0"),
        (backbone, "dtype", "bfloat16"),
    ]
    name = "proof.circumstances"
    replaced: list[tuple[str, Callable[..., str]]] = [
        (f"{name}.version", lambda _: "0"),
        (f"{name}._code_digest", lambda: "0"),
        (f"{name}.torch.backends.cpu.get_cpu_capability", lambda: "none"),
    ]
    found = {here}
    for target, attribute, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(target, attribute, value)
            found.add(circumstances(backbone))
    for path, function in replaced:
        with monkeypatch.context() as patch:
            patch.setattr(path, function)
            found.add(circumstances(backbone))
    with monkeypatch.context() as patch:
        patch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
        found.add(circumstances(backbone))
    assert len(found) == 2 + len(changes) + len(replaced)
