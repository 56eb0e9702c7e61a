"""How probes are replayed: in batches as serving would form them, their rows among those of other adapters.

Pure but for `replay`, which asks a model; it judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..engine.request import Logits, Placement, group_of
from ..engine.runner import Model

if TYPE_CHECKING:
    from modeling import Encoded

BARE = Placement(slot=0, body_slot=0)
"""The backbone without an adapter."""

Probes = Sequence[Sequence["Encoded"]]
"""The rows of each probe: one, or one per choice."""


@dataclass(frozen=True, slots=True)
class ProbeBatch:
    """The arguments of one `ServedModel.run`; only the probes' rows are read."""

    encoded: list[Encoded] = field(default_factory=list)
    body_slots: list[int] = field(default_factory=list)
    reads: list[tuple[int, int]] = field(default_factory=list)


def plan_probes(
    installed: Iterable[tuple[Probes, Placement]],
    *,
    neighbours: Sequence[Placement],
    max_batch_tokens: int,
    max_row_tokens: int,
) -> list[ProbeBatch]:
    """Batches that replay probes under the adapters at these placements; the reads are in their order.

    Each row stands beside the same text under one of the `neighbours`, so that the replay is a mixed batch
    as in serving; but a row under an exclusive body stands among its own. A neighbour whose virtual tokens
    would make the row longer than `max_row_tokens` gives way to the bare backbone.
    """
    batches: list[ProbeBatch] = []
    group: object = ()  # of no row
    num_tokens = turn = 0
    for probes, placement in installed:
        for encoded in (row for rows in probes for row in rows):
            places = [placement]
            if neighbours and not placement.exclusive:
                places.append(_fitting(neighbours[turn % len(neighbours)], encoded, max_row_tokens))
                turn += 1
            cost_tokens = sum(_cost_tokens(one, encoded) for one in places)
            fits = group == group_of(placement) and num_tokens + cost_tokens <= max_batch_tokens
            if not batches or not fits:
                batches.append(ProbeBatch())
                group, num_tokens = group_of(placement), 0
            batch = batches[-1]
            batch.reads.append((len(batch.encoded), placement.slot))
            batch.encoded.extend([encoded] * len(places))
            batch.body_slots.extend(one.body_slot for one in places)
            num_tokens += cost_tokens
    return batches


def _fitting(neighbour: Placement, encoded: Encoded, max_row_tokens: int) -> Placement:
    fits = len(encoded) + neighbour.virtual_tokens <= max_row_tokens
    return neighbour if fits and not neighbour.exclusive else BARE


def _cost_tokens(placement: Placement, encoded: Encoded) -> int:
    per_token = 1 + placement.decoder_per_token
    decoder_tokens = placement.decoder_tokens + len(encoded.target)
    return len(encoded) * per_token + placement.virtual_tokens + decoder_tokens


def replay(model: Model, batch: ProbeBatch) -> list[Logits]:
    """The logits of the reads of one batch."""
    return model.run(batch.encoded, batch.body_slots, batch.reads)


def by_probe(probes: Probes, logits: Iterator[Logits]) -> list[Logits]:
    """Take the logits of the rows of some probes, in their order: [L], or [K] of K choices, per probe."""
    return [
        np.concatenate([next(logits) for _ in rows]) if len(rows) > 1 else next(logits) for rows in probes
    ]
