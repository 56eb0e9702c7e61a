"""A model and a tokenizer without tensors, whose answers say what they were asked; for unit tests only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modeling import Encoded, EncodedRow, HeadSpec, Placement, TextItem, Tokens, kind_of, readout_of
from service.api.predict import num_outputs
from service.engine.engine import Engine
from service.engine.request import Column, Job, Row, ServingCard
from service.engine.scheduler import Scheduler
from service.metrics import Metrics

BINARY = HeadSpec("single_label", ("no", "yes"))
CHOICE = HeadSpec("multiple_choice", ("choice",))
STRINGS = HeadSpec("text_to_text", ("false", "true"), pooling="none")


class FakeText:
    """One token per word, its id the word's length; two special tokens around it. Each text costs once."""

    def __init__(self) -> None:
        self.num_texts = 0

    def tokenize(self, items: Sequence[TextItem], *, words: bool = False) -> list[Tokens]:
        texts = {text for item in items for text in ((item,) if isinstance(item, str) else item)}
        self.num_texts += len(texts)
        return [
            Tokens(_ids(item), None) if isinstance(item, str) else Tokens(_ids(item[0]), _ids(item[1]))
            for item in items
        ]

    def assemble(self, tokens: Tokens, max_tokens: int | None = None) -> Encoded:
        ids = [1, *tokens.first, *(tokens.second or []), 2]
        kept = ids[:max_tokens]
        return Encoded(kept, [0] * len(kept), len(ids), truncated=len(kept) < len(ids))


def _ids(text: str) -> list[int]:
    return [len(word) for word in text.split()]


@dataclass(frozen=True)
class FakePacked:
    """An adapter as far as a model without tensors knows one."""

    virtual_tokens: int = 0
    exclusive: bool = False
    label_tokens: int = 0
    reads_end: bool = False
    has_body: bool = True


class FakeModel:
    """Logits of a read: (sum of the ids, slot); texts: the same in words. Remembers batches and thread.

    Body slots from 900 on are exclusive.
    """

    def __init__(self) -> None:
        self.batches: list[tuple[list[EncodedRow], list[int], list[tuple[int, int]]]] = []
        self.generated: list[tuple[list[int], int]] = []
        self.threads: set[int] = set()
        self.fail: Callable[[Sequence[Encoded]], Exception | None] = lambda encoded: None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.slots: dict[int, Any] = {}

    def install(self, packed: Any) -> int:
        slot = max(self.slots, default=0) + 1
        self.slots[slot] = packed
        return slot

    def install_all(self, many: Sequence[Any]) -> list[int]:
        return [self.install(packed) for packed in many]

    def remove(self, slot: int) -> None:
        del self.slots[slot]

    def placement(self, slot: int) -> Placement:
        packed: FakePacked = self.slots[slot]
        body = slot if packed.has_body else 0
        costs = packed.label_tokens, int(packed.reads_end)
        return Placement(slot, body, packed.virtual_tokens, packed.exclusive, *costs)

    def _exclusive(self, body_slot: int) -> bool:
        return body_slot >= 900 or (body_slot in self.slots and self.slots[body_slot].exclusive)

    def generate(
        self, encoded: Sequence[Encoded], body_slots: Sequence[int], max_new_tokens: int
    ) -> list[str]:
        self._enter(encoded, body_slots)
        self.generated.append((list(body_slots), max_new_tokens))
        return [f"{sum(one.ids)} by {slot}" for one, slot in zip(encoded, body_slots, strict=True)]

    def _enter(self, encoded: Sequence[EncodedRow], body_slots: Sequence[int]) -> None:
        self.entered.set()
        assert self.gate.wait(20)
        self.threads.add(threading.get_ident())
        if len(set(body_slots)) > 1 and any(map(self._exclusive, body_slots)):
            raise ValueError("an exclusive body among others")
        error = self.fail([part for row in encoded for part in row.parts])
        if error is not None:
            raise error

    def run(
        self, encoded: Sequence[EncodedRow], body_slots: Sequence[int], reads: Sequence[tuple[int, int]]
    ) -> list[Any]:
        self._enter(encoded, body_slots)
        self.batches.append((list(encoded), list(body_slots), list(reads)))
        sums = [sum(number for part in row.parts for number in part.ids) for row in encoded]
        return [np.array([sums[row], slot], dtype=np.float32) for row, slot in reads]


def card(
    *,
    body_slot: int = 1,
    max_tokens: int = 16,
    fields: tuple[str, ...] = ("text",),
    spec: HeadSpec = BINARY,
    **placed: Any,
) -> ServingCard:
    placement = Placement(0, body_slot, **placed)
    return ServingCard(spec, kind_of(spec), readout_of(spec), placement, max_tokens, fields, "hadamard")


class Finished:
    """Collects announced jobs."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._changed = threading.Condition()

    def __call__(self, job: Job) -> None:
        with self._changed:
            self.jobs.append(job)
            self._changed.notify_all()

    def wait(self, count: int = 1, timeout_s: float = 20) -> list[Job]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.jobs) >= count, timeout_s), "jobs are missing"
        return self.jobs


def job(
    items: Sequence[object],
    *cards: ServingCard,
    announce: Callable[[Job], None],
    truncate: bool = False,
    max_new_tokens: int = 0,
) -> Job:
    """As the predict route makes one."""
    cards = cards or (card(),)
    columns = [
        Column.empty(slot, one, len(items), 0 if max_new_tokens else num_outputs(one, items))
        for slot, one in enumerate(cards, start=1)
    ]
    one = Job(items, columns, truncate, max_new_tokens)
    one.done.add_done_callback(lambda _: announce(one))
    return one


def scheduler(**changes: int) -> Scheduler[Row]:
    limits = {
        "max_batch_tokens": 64,
        "max_batch_rows": 16,
        "max_waiting_tokens": 1000,
        "max_charge_tokens": 100,
    }
    return Scheduler(**(limits | changes))


def engine_with(model: FakeModel, **changes: int) -> tuple[Engine, Metrics]:
    """A started engine."""
    metrics = Metrics()
    engine = Engine(scheduler(**changes), metrics)
    engine.start(lambda: model).result(20)
    return engine, metrics


def value_of(metrics: Metrics, line: str) -> float:
    """The value of a series, named as Prometheus prints it; 0 if it is not there."""
    for found in metrics.render().decode().splitlines():
        name, _, value = found.rpartition(" ")
        if name == line:
            return float(value)
    return 0.0
