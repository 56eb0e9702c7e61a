"""Replayed logits against recorded ones: how far is too far, to the edge of the tolerance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modeling import Backbone
from proof.candidate import Candidate, examine
from proof.errors import Refused
from proof.replay import TOLERANCES, Tolerance, compare
from tests.integration.world import file_of

Logits = np.ndarray[tuple[int], np.dtype[np.float32]]


@pytest.fixture(scope="module")
def candidate(backbone: Backbone) -> Candidate:
    return examine(file_of(backbone, "topic"), backbone, task="topic")


def recorded(candidate: Candidate) -> list[Logits]:
    return [np.array(probe.logits, dtype=np.float32) for probe in candidate.manifest.probes]


def test_what_was_recorded_is_reproduced(candidate: Candidate) -> None:
    report = compare(candidate, recorded(candidate), TOLERANCES[torch.float32])
    assert report.count == 8
    assert report.max_difference < 1e-6


def test_fewer_probes_are_the_first_ones(candidate: Candidate) -> None:
    assert compare(candidate, recorded(candidate)[:3], TOLERANCES[torch.float32]).count == 3
    assert compare(candidate, [], TOLERANCES[torch.float32]).max_difference == 0.0
    with pytest.raises(Refused, match="1 of 1 probes"):
        compare(candidate, recorded(candidate)[1:2], TOLERANCES[torch.float32])


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("tolerance", [Tolerance(0.1, 0.0), Tolerance(0.0, 0.1), Tolerance(0.1, 0.1)])
def test_the_tolerance_is_absolute_and_relative_to_the_recorded_value(
    candidate: Candidate, tolerance: Tolerance, sign: int
) -> None:
    wanted = recorded(candidate)
    place = int(np.abs(wanted[2]).argmax())
    allowed = tolerance.atol + tolerance.rtol * abs(float(wanted[2][place]))
    within, beyond = ([row.copy() for row in wanted] for _ in range(2))
    within[2][place] += sign * 0.99 * allowed
    beyond[2][place] += sign * 1.01 * allowed
    assert compare(candidate, within, tolerance).max_difference == pytest.approx(0.99 * allowed, rel=1e-4)
    with pytest.raises(Refused, match=r"1 of 8 probes are not reproduced: probes\.2"):
        compare(candidate, beyond, tolerance)


def test_every_probe_that_differs_is_named(candidate: Candidate) -> None:
    logits = recorded(candidate)
    logits[0][0], logits[7][1], logits[3][2] = np.nan, logits[7][1] + 1, -np.inf
    with pytest.raises(Refused, match="3 of 8 probes are not reproduced") as caught:
        compare(candidate, logits, TOLERANCES[torch.float32])
    assert [(p.field, "finite" in p.got) for p in caught.value.failures] == [
        ("probes.0", True),
        ("probes.3", True),
        ("probes.7", False),
    ]


@pytest.mark.parametrize(
    ("dtype", "atol", "rtol"),
    [(torch.float32, 1e-4, 1e-4), (torch.float16, 0.03, 0.01), (torch.bfloat16, 0.15, 0.05)],
)
def test_the_published_tolerances(dtype: torch.dtype, atol: float, rtol: float) -> None:
    assert TOLERANCES[dtype] == Tolerance(atol, rtol)
