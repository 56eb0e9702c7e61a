"""What travels through the engine: a job, its columns (one per task), its rows, the errors of single items.

Knows the shapes, not how they are filled: the tokenizer writes lengths and item errors, the device thread
logits and texts, `api/answers.py` reads both when the job is done. L labels, N items, K choices.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import ITEM_CODES
from ..logs import request_id

if TYPE_CHECKING:
    from modeling import EncodedRow, HeadSpec, Kind, Placement, Readout

_numbers = itertools.count(1)

Logits = np.ndarray[Any, np.dtype[np.float32]]
Input = str | dict[str, str | list[str]]  # one input as a request has it


@dataclass(frozen=True, slots=True)
class ServingCard:
    """What answering with one resident version needs."""

    spec: HeadSpec
    kind: Kind
    readout: Readout
    placement: Placement
    max_tokens: int
    fields: tuple[str, ...]  # one or two input fields
    method: str
    example: Input = field(default="", hash=False)  # an object of JSON has no hash
    reads: dict[str, object] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a request has no answer; its neighbours do."""

    code: str
    message: str
    index: int
    details: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        assert self.code in ITEM_CODES, f"{self.code} is not among ITEM_CODES; this is a bug"

    def as_json(self) -> dict[str, object]:
        return {"code": self.code, "message": self.message, "index": self.index, **dict(self.details)}


class Marked(NamedTuple):
    """A text whose words are labelled, and where those of its words stand that were not cut."""

    text: str
    words: list[tuple[int, int]]


@dataclass(slots=True, eq=False)
class Column:
    """One task of a job: how to encode its rows, and what came out for its N items.

    A multiple_choice item uses the first K of its logits, in the order of `choices`. A column that generates
    has texts and no logits; one of a task that labels words has in `of_words` what came out for the words in
    `marked`, flat [W L], and no other logits.
    """

    slot: int
    card: ServingCard
    logits: Logits  # [N, L], or [N, most choices of an item], or [N, 0]
    num_tokens: list[int]  # N, before truncation; of the longest row of an item
    truncated: list[bool]  # N
    errors: dict[int, ItemError] = field(default_factory=dict)
    choices: dict[int, tuple[str, ...]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    embeddings: dict[int, Logits] = field(default_factory=dict)  # [H] each, of items that are a text alone
    marked: dict[int, Marked] = field(default_factory=dict)
    of_words: dict[int, Logits] = field(default_factory=dict)

    @classmethod
    def empty(cls, slot: int, card: ServingCard, num_items: int, num_outputs: int) -> Column:
        """A column with nothing answered yet: `num_outputs` logits per item, 0 for texts."""
        logits = np.zeros((num_items, num_outputs), dtype=np.float32)
        return cls(slot, card, logits, [0] * num_items, [False] * num_items)

    @property
    def generates(self) -> bool:
        """Whether it is answered with texts."""
        return bool(self.logits.shape[1] == 0)

    @property
    def num_logits(self) -> int:
        """What has been computed for it."""
        more = [*self.of_words.values(), *self.embeddings.values()]
        return int(self.logits.size) + sum(map(len, more))

    def put(self, row: Row, value: Logits | str) -> None:
        """Enter what came out of a row: logits [L] or [W L], the one of a choice, a generated text or the
        embedding of a text.
        """
        if isinstance(value, str):
            self.texts[row.item] = value
        elif row.item in self.marked:
            self.of_words[row.item] = value
        elif self.card.readout.embeds and len(row.encoded.parts) == 1:
            self.embeddings[row.item] = value
        elif row.choice is None:
            self.logits[row.item] = value
        else:
            self.logits[row.item, row.choice] = value[0]


@dataclass(slots=True, eq=False)
class Job:
    """One predict call on its way through tokenizer, scheduler and device."""

    items: Sequence[object]  # as they came in the request; validated one by one
    columns: list[Column]
    truncate: bool
    max_new_tokens: int = 0  # generate texts of at most so many tokens; 0: logits are read
    ids: Mapping[str, list[int]] = field(default_factory=dict)  # of texts that a front turned into ids
    number: int = field(default_factory=lambda: next(_numbers))
    request_id: str = field(default_factory=request_id.get)
    num_pending: int = 0  # rows queued or on the device
    closed: bool = False  # no more rows will come
    finished: bool = False
    done: Future[None] = field(default_factory=Future)  # fails with a bug of ours: no answer at all
    queued_at_s: float = 0.0


@dataclass(slots=True, eq=False)
class Row:
    """One text, or a pair, under one body slot, read by the heads of one or several columns of its job.

    `choice` is its place among the rows of an item with choices, None for the only row of an item.
    """

    job: Job
    item: int
    encoded: EncodedRow
    body_slot: int
    choice: int | None = None
    slots: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    num_tokens: int = 0
    group: tuple[int, int] | None = None  # those of the same share batches; None with all of its kind
    decoder_per_token: int = 0

    def read_by(self, number: int, column: Column) -> None:
        """Add a column, by its number in the job; the row costs what its text and all its readers cost.

        Labels that are scored cost each task its own; the decoder's pass over the text is one for all.
        """
        placement, new_tokens = column.card.placement, self.job.max_new_tokens
        length = len(self.encoded)
        if not self.slots:
            self.num_tokens = length + placement.virtual_tokens * len(self.encoded.parts) + new_tokens
            # under an exclusive body: with that body's rows alone; one that generates: with as many tokens
            own = placement.body_slot if placement.exclusive else 0
            self.group = (own, new_tokens) if own or new_tokens else None
        self.slots, self.columns = (*self.slots, column.slot), (*self.columns, number)
        if new_tokens:
            return
        more = max(0, placement.decoder_per_token - self.decoder_per_token)
        self.decoder_per_token += more
        self.num_tokens += placement.decoder_tokens + more * length
