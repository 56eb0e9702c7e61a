"""Probes of a new version as ordinary rows of the scheduler, in turns with everybody's.

Nobody waits for them longer than for a small request. They share batches with whatever runs at the time. So
that a batch is mixed also when nothing else runs, the bare backbone and a resident read a text each, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from modeling import Backbone, EncodedRow, Placement
from modeling.served import BARE
from proof.candidate import Candidate
from proof.replay import TOLERANCES, ProbeReport, compare

from ..engine.engine import Engine
from ..engine.request import Column, Job, Logits, Marked, Row, ServingCard
from ..errors import ItemFailed

Probe = Sequence[EncodedRow]


def shortest_first(candidate: Candidate) -> list[int]:
    """The numbers of a candidate's probes, those that cost least first."""
    return sorted(range(len(candidate.probes)), key=lambda number: sum(map(len, candidate.probes[number])))


class Prover:
    """Replays probes on the served model. Its methods end when the rows have been answered."""

    def __init__(self, engine: Engine, backbone: Backbone) -> None:
        self._engine, self._max_row_tokens = engine, backbone.max_tokens
        self._tolerance = TOLERANCES[backbone.dtype]

    async def replay(
        self,
        candidate: Candidate,
        card: ServingCard,
        numbers: Sequence[int],
        neighbours: Sequence[Placement] = (),
    ) -> ProbeReport:
        """Some of a candidate's probes under an installed adapter, whose slot must stay until this ends.

        Raises Refused if they are not reproduced, ItemFailed if one could not be computed, Overloaded,
        NotReady.
        """
        probes = [candidate.probes[number] for number in numbers]
        job = _job(card, probes)
        rows = [row for item, probe in enumerate(probes) for row in _rows(job, item, probe)]
        if rows and not card.placement.exclusive:
            rows += [self._beside(rows[i % len(rows)], one) for i, one in enumerate(neighbours)]
        await self._run(job, rows)
        (column,) = job.columns
        for item, error in column.errors.items():
            told = f"probe {numbers[item]} could not be computed: {error.message}"
            raise ItemFailed(told, error.code)
        logits = [_logits_of(column, item, probe) for item, probe in enumerate(probes)]
        return compare(candidate, logits, self._tolerance, numbers)

    async def _run(self, job: Job, rows: Sequence[Row]) -> None:
        self._engine.open(job, sum(row.num_tokens for row in rows))
        try:
            self._engine.add(job, rows, last=True)
            await asyncio.wrap_future(job.done)
        finally:
            self._engine.cancel(job)  # changes nothing if it is finished

    def _beside(self, row: Row, placement: Placement) -> Row:
        """The same text under another adapter, read by no head; under none where it has no room for it."""
        longest = max(map(len, row.encoded.parts)) + placement.virtual_tokens
        placed = BARE if longest > self._max_row_tokens or placement.exclusive else placement
        num_tokens = len(row.encoded) + placed.virtual_tokens * len(row.encoded.parts)
        return Row(row.job, row.item, row.encoded, placed.body_slot, num_tokens=num_tokens)


def _job(card: ServingCard, probes: Sequence[Probe]) -> Job:
    width = max(map(len, probes), default=0) if card.kind.choices else len(card.spec.labels) or 1
    return Job(probes, [Column.empty(card.placement.slot, card, len(probes), width)], truncate=True)


def _rows(job: Job, item: int, probe: Probe) -> list[Row]:
    (column,) = job.columns
    if column.card.readout.reads_words:
        column.marked[item] = Marked("", [])
    rows = []
    for choice, encoded in enumerate(probe):
        row = Row(job, item, encoded, column.card.placement.body_slot, choice if len(probe) > 1 else None)
        row.read_by(0, column)
        row.num_tokens += len(encoded.target)
        rows.append(row)
    return rows


def _logits_of(column: Column, item: int, probe: Probe) -> Logits:
    """What came out of a probe: [L], [K] of its choices, or [W L] of its words."""
    if item in column.marked:
        return column.of_words[item]
    if item in column.embeddings:
        return column.embeddings[item]
    return column.logits[item, : len(probe)] if len(probe) > 1 else np.asarray(column.logits[item])
