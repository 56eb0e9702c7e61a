"""Held-out rows over HTTP, mixed at random, against the offline evaluation. Prints nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from demo_server import DemoError
from scipy import stats
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from trunkline import Client, Prediction

if TYPE_CHECKING:
    from training.file.evaluate import FileEvaluation

MAX_ROWS_PER_REQUEST = 6
NUM_CALLERS = 8
METRIC_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Tolerance:
    """Two logits are equal when they differ by at most `atol + rtol * |expected|`."""

    atol: float
    rtol: float


def ask_mixed(
    client: Client, evaluations: Mapping[str, FileEvaluation], seed: int
) -> dict[str, list[Prediction]]:
    """Every held-out row of every task, in small requests of random size and order, several at a time.

    The server therefore runs batches in which neighbours belong to other tasks.
    """
    requests = random_requests({task: len(found.rows) for task, found in evaluations.items()}, seed)
    served: dict[str, list[Prediction]] = {
        task: [Prediction(task)] * len(found.rows) for task, found in evaluations.items()
    }

    def ask(request: tuple[str, list[int]]) -> None:
        task, rows = request
        inputs = evaluations[task].inputs
        answers = client.predict(task, [inputs[row] for row in rows], raw=True)
        for row, prediction in zip(rows, answers, strict=True):
            served[task][row] = prediction.raise_for_error()

    with ThreadPoolExecutor(NUM_CALLERS) as callers:
        list(callers.map(ask, requests))
    return served


def random_requests(num_rows: Mapping[str, int], seed: int) -> list[tuple[str, list[int]]]:
    """(task, rows) of each request: all rows once, shuffled, and so are the requests."""
    chance = random.Random(seed)  # noqa: S311 - an order of rows, no secret
    requests: list[tuple[str, list[int]]] = []
    for task, count in num_rows.items():
        rows = chance.sample(range(count), count)
        while rows:
            size = chance.randint(1, MAX_ROWS_PER_REQUEST)
            requests.append((task, rows[:size]))
            rows = rows[size:]
    chance.shuffle(requests)
    return requests


def largest_difference(offline: FileEvaluation, served: Sequence[Prediction], tolerance: Tolerance) -> float:
    """The largest difference between logits offline and over HTTP.

    Raises DemoError, naming the row, when a logit is outside the tolerance or an answer is another one.
    """
    largest = 0.0
    for row, prediction in zip(offline.rows, served, strict=True):
        expected, got = np.asarray(row.logits), np.asarray(prediction.logits)
        difference = np.abs(got - expected)
        if not (difference <= tolerance.atol + tolerance.rtol * np.abs(expected)).all():  # also when NaN
            where = f"{offline.task}, held-out row {row.row}"
            raise DemoError(f"{where}: logits over HTTP differ from offline by {difference.max():.2g}")
        if prediction.label != row.label:
            where = f"{offline.task}, held-out row {row.row}"
            raise DemoError(f"{where}: {prediction.label!r} over HTTP, {row.label!r} offline")
        largest = max(largest, float(difference.max()))
    return largest


def check_metric(offline: FileEvaluation, served: Sequence[Prediction]) -> float:
    """The deciding metric, computed here from the answers over HTTP alone.

    Raises DemoError when it is not the one of the offline evaluation.
    """
    value = METRICS[offline.metric]([row.expected for row in offline.rows], served)
    if not abs(value - offline.value) <= METRIC_TOLERANCE:
        found = f"{offline.metric} is {value:.5f} over HTTP and {offline.value:.5f} offline"
        raise DemoError(f"{offline.task}: {found}")
    return value


def _accuracy(truth: Sequence[Any], served: Sequence[Prediction]) -> float:
    return float(np.mean([got.label == label for label, got in zip(truth, served, strict=True)]))


def _micro_f1(truth: Sequence[Any], served: Sequence[Prediction]) -> float:
    found = [got.label for got in served]
    encoder = MultiLabelBinarizer().fit([*truth, *found])
    return float(f1_score(encoder.transform(truth), encoder.transform(found), average="micro"))


def _mean_correlation(truth: Sequence[Any], served: Sequence[Prediction]) -> float:
    numbers = [got.score for got in served]
    return float(stats.pearsonr(truth, numbers)[0] + stats.spearmanr(truth, numbers)[0]) / 2


METRICS = {"accuracy": _accuracy, "micro_f1": _micro_f1, "pearson_spearman": _mean_correlation}
