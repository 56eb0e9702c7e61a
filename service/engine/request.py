"""What travels through the engine: a job, its columns (one per task), its rows, the errors of single items.

Knows the shapes, not how they are filled: the tokenizer writes lengths and item errors, the device thread
logits, `api/answers.py` reads both when the job is done. L labels, N items.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..logs import request_id

if TYPE_CHECKING:
    from modeling import Encoded, HeadSpec

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class ServingCard:
    """What answering with one resident version needs, besides its slot."""

    spec: HeadSpec
    body_slot: int  # 0: the adapter has no body, its rows are shared with every other such task
    max_tokens: int
    fields: tuple[str, ...]  # one or two input fields
    method: str
    size_bytes: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a request has no answer; its neighbours do."""

    code: str
    message: str
    index: int
    details: tuple[tuple[str, int], ...] = ()

    def as_json(self) -> dict[str, object]:
        """The form in which it stands in an answer."""
        return {"code": self.code, "message": self.message, "index": self.index, **dict(self.details)}


@dataclass(slots=True, eq=False)
class Column:
    """One task of a job: how to encode its rows, and what came out for its N items."""

    slot: int
    card: ServingCard
    logits: np.ndarray[Any, np.dtype[np.float32]]  # [N, L]
    num_tokens: list[int]  # N, before truncation
    truncated: list[bool]  # N
    errors: dict[int, ItemError] = field(default_factory=dict)

    @classmethod
    def empty(cls, slot: int, card: ServingCard, num_items: int) -> Column:
        """A column with nothing answered yet."""
        logits = np.zeros((num_items, len(card.spec.labels)), dtype=np.float32)
        return cls(slot, card, logits, [0] * num_items, [False] * num_items)


@dataclass(slots=True, eq=False)
class Job:
    """One predict call on its way through tokenizer, scheduler and device."""

    items: Sequence[object]  # as they came in the request; validated one by one
    columns: list[Column]
    truncate: bool
    announce: Callable[[Job], None]  # called once, from any thread, when the job is finished
    number: int = field(default_factory=lambda: next(_numbers))
    request_id: str = field(default_factory=request_id.get)
    num_pending: int = 0  # rows queued or on the device
    closed: bool = False  # no more rows will come
    finished: bool = False
    failure: BaseException | None = None  # a bug of ours: the whole job has no answer
    queued_at_s: float = 0.0


@dataclass(slots=True, eq=False)
class Row:
    """One text under one body slot, read by the heads of one or several columns of its job."""

    job: Job
    item: int
    encoded: Encoded
    num_tokens: int
    body_slot: int
    slots: tuple[int, ...]
    columns: tuple[int, ...]
