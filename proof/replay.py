"""How probes are replayed: in batches as serving would form them, their rows among those of other adapters.

Pure but for `replay`, which asks a model; `compare` judges what came out. L labels, K choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from failures import Failure
from modeling import EncodedRow, Placement, ServedModel
from modeling.served import BARE, Logits
from proof.candidate import Candidate
from proof.errors import Refused

Probes = Sequence[Sequence[EncodedRow]]
"""The rows of each probe: one, or one per choice."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far replayed logits may be from recorded ones: |got - recorded| <= atol + rtol * |recorded|."""

    atol: float
    rtol: float


# The recorded logits are the trainer's, in float32; a service in 16 bit is off by its own rounding
# (2^-11 of a value in float16, 2^-8 in bfloat16, at every step of the pass).
TOLERANCES = {
    torch.float32: Tolerance(1e-4, 1e-4),
    torch.float16: Tolerance(0.03, 0.01),
    torch.bfloat16: Tolerance(0.15, 0.05),
}


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """How many probes were replayed, the largest absolute difference of a logit; `pending` ones follow."""

    count: int
    max_difference: float
    pending: int = 0


@dataclass(frozen=True, slots=True)
class ProbeBatch:
    """The arguments of one `ServedModel.run`; only the probes' rows are read."""

    encoded: list[EncodedRow] = field(default_factory=list)
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
    last_alone: object = None
    num_tokens = turn = 0
    for probes, placement in installed:
        alone = placement.body_slot if placement.exclusive else 0
        for encoded in (row for rows in probes for row in rows):
            places = [placement]
            if neighbours and not alone:
                places.append(_fitting(neighbours[turn % len(neighbours)], encoded, max_row_tokens))
                turn += 1
            cost_tokens = sum(_cost_tokens(one, encoded) for one in places)
            if alone != last_alone or num_tokens + cost_tokens > max_batch_tokens:
                batches.append(ProbeBatch())
                last_alone, num_tokens = alone, 0
            batch = batches[-1]
            batch.reads.append((len(batch.encoded), placement.slot))
            batch.encoded.extend([encoded] * len(places))
            batch.body_slots.extend(one.body_slot for one in places)
            num_tokens += cost_tokens
    return batches


def _fitting(neighbour: Placement, encoded: EncodedRow, max_row_tokens: int) -> Placement:
    fits = max(map(len, encoded.parts)) + neighbour.virtual_tokens <= max_row_tokens
    return neighbour if fits and not neighbour.exclusive else BARE


def _cost_tokens(placement: Placement, encoded: EncodedRow) -> int:
    per_token = 1 + placement.decoder_per_token
    decoder_tokens = placement.decoder_tokens + len(encoded.target)
    virtual_tokens = placement.virtual_tokens * len(encoded.parts)
    return len(encoded) * per_token + virtual_tokens + decoder_tokens


def replay(model: ServedModel, batch: ProbeBatch) -> list[Logits]:
    return model.run(batch.encoded, batch.body_slots, batch.reads)


def by_probe(probes: Probes, logits: Iterator[Logits]) -> list[Logits]:
    """Take the logits of the rows of some probes, in their order: [L], or [K] of K choices, per probe."""
    return [np.concatenate([next(logits) for _ in rows]) for rows in probes]


def compare(
    candidate: Candidate,
    logits: Sequence[np.ndarray[Any, Any]],
    tolerance: Tolerance,
    numbers: Sequence[int] | None = None,
) -> ProbeReport:
    """Judge the replayed logits of some probes, the first ones unless `numbers` says which.

    Raises Refused naming those that differ.
    """
    failures: list[Failure] = []
    max_difference = 0.0
    for index, got in zip(range(len(logits)) if numbers is None else numbers, logits, strict=True):
        wanted = np.asarray(candidate.manifest.probes[index].logits, dtype=np.float64)  # [L]
        difference = np.abs(got.astype(np.float64) - wanted)
        if not np.isfinite(got).all():
            failures.append(_failure(index, "logits that are not finite", "finite logits", tolerance))
        elif (difference > tolerance.atol + tolerance.rtol * np.abs(wanted)).any():
            allowed = f"within {tolerance.atol:g} + {tolerance.rtol:g} x the recorded value"
            failures.append(
                _failure(index, f"logits that differ by {difference.max():.3g}", allowed, tolerance)
            )
        else:
            max_difference = max(max_difference, float(difference.max()))
    if failures:
        raise Refused(failures, what=f"{len(failures)} of {len(logits)} probes are not reproduced")
    return ProbeReport(len(logits), max_difference)


def _failure(index: int, got: str, allowed: str, tolerance: Tolerance) -> Failure:
    remedy = "serve it with the backbone it was trained on, unchanged; else train it again."
    if tolerance != TOLERANCES[torch.float32]:
        remedy = f"serve it in float32 (--dtype float32); if it differs there, too, {remedy}"
    return Failure(f"probes.{index}", got, allowed, remedy)
