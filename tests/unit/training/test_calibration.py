"""Calibration against a planted temperature, the library's bound, bins by hand; and what files hold of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from adapters_store.adapter_file import read_adapter_file
from modeling import Backbone, HeadSpec
from modeling.kinds.base import sigmoid
from proof.candidate import spec_of
from tests.unit.training.conftest import Told, agree, quick
from training.errors import ConfigError
from training.file.evaluate import evaluate_file
from training.file.prune import prune_file
from training.metrics.calibration import (
    COOLEST,
    FEWEST_ROWS,
    Confidence,
    Threshold,
    calibration_error,
    choose_threshold,
    fit_temperature,
    reliability,
)
from training.metrics.scores import Metric
from training.report.calibrate import Calibration, calibrate, check_abstain
from training.run import train
from training.tasks import Target, Task
from training.tasks.multi_label import MultiLabel
from training.tasks.regression import Regression
from training.tasks.single_label import SingleLabel

ABC = ("a", "b", "c")
ONE = SingleLabel(ABC, Metric("accuracy"))


def made(num_rows: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, list[Target]]:
    """Logits [N, 3] whose softmax is right once they are divided by the temperature."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, size=(num_rows, 3))
    chances = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    targets: list[Target] = [int(random.choice(3, p=row)) for row in chances]
    return (true * temperature).astype(np.float32), targets


def test_bins_and_their_error_by_hand() -> None:
    found = Confidence(np.array([0.1, 0.2, 0.95, 1.0]), np.array([False, True, True, True]))
    low, high = reliability(found, num_bins=2)
    assert (low.count, low.share) == (2, 0.5)
    assert low.score == pytest.approx(0.15)
    assert (high.low, high.high, high.count, high.share) == (0.5, 1.0, 2, 1.0)
    fine = Confidence(np.array([0.8] * 10), np.array([True] * 5 + [False] * 5))
    assert calibration_error(fine) == pytest.approx(0.3)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_found(temperature: float) -> None:
    logits, targets = made(3_000, temperature)
    found = calibrate(ONE, logits, targets)
    assert found.temperature == pytest.approx(temperature, rel=0.08)
    assert found.before is not None
    assert found.after is not None
    assert found.after.log_loss <= found.before.log_loss
    assert found.after.calibration_error < 0.03


def test_the_log_loss_is_never_made_worse_and_few_right_rows_do_not_make_it_sure() -> None:
    logits, _ = made(40, 1.0)
    targets: list[Target] = logits.argmax(axis=1).tolist()  # all right: the likeliest temperature is nought
    found = calibrate(ONE, logits, targets)
    assert found.temperature is not None
    assert COOLEST < found.temperature < 1
    assert found.before is not None
    assert found.after is not None
    assert found.after.log_loss < found.before.log_loss


def test_a_temperature_stays_in_its_range() -> None:
    assert fit_temperature(lambda sharpness: -1e6 * sharpness, 1) == COOLEST
    assert fit_temperature(lambda sharpness: 1e6 * sharpness, 1) == pytest.approx(10)


def test_too_few_rows_keep_their_scores_and_say_so() -> None:
    logits, targets = made(FEWEST_ROWS - 1, 5.0)
    found = calibrate(ONE, logits, targets)
    assert found.temperature is None
    assert found.before == found.after
    assert "at least 30 held-out rows, there are 29" in " ".join(found.told())
    assert calibrate(ONE, *made(FEWEST_ROWS, 5.0)).temperature is not None


def test_no_label_of_several_changes_with_the_temperature() -> None:
    random = np.random.default_rng(1)
    true = random.normal(-1, 2, size=(400, 3))
    wanted = random.random(true.shape) < sigmoid(true)
    targets: list[Target] = [tuple(np.flatnonzero(row).tolist()) for row in wanted]
    logits = (true * 4).astype(np.float32)
    task = MultiLabel(ABC, Metric("micro_f1"), 0.3)
    found = calibrate(task, logits, targets)
    assert found.temperature == pytest.approx(4, rel=0.15)
    spec = found.applied(task.spec("mean"))
    assert spec.threshold == pytest.approx(1 / (1 + (0.7 / 0.3) ** (1 / (found.temperature or 1))))
    told = task.judged(spec, logits, targets).told
    assert told == [[ABC[i] for i in range(3) if row[i] >= 0.3] for row in sigmoid(logits.astype(float))]
    again = MultiLabel.build(ABC, Metric("micro_f1"), None, spec)
    assert again.scores(logits, targets) == task.scores(logits, targets)
    twice = calibrate(again, logits, targets)
    assert twice.temperature == found.temperature
    assert twice.applied(again.spec("mean")).threshold == pytest.approx(spec.threshold)


def test_the_lowest_score_whose_bound_holds() -> None:
    scores = np.linspace(1, 0.01, 100)
    right = np.arange(100) < 70
    found = choose_threshold(scores, right, 0.05)
    answered = round(found.coverage * 100)
    wrong = max(0, answered - 70)
    assert found.bound == pytest.approx(stats.beta.ppf(0.95, wrong + 1, answered - wrong))
    assert found.bound <= 0.05
    worse = stats.beta.ppf(0.95, wrong + 2, answered - wrong)
    assert worse > 0.05
    assert scores[answered - 1] > found.value > scores[answered]
    assert (right[scores >= found.value]).mean() == pytest.approx(1 - found.error)


def test_where_rows_are_too_few_the_measured_error_chooses() -> None:
    found = choose_threshold(np.linspace(1, 0.5, 20), np.arange(20) != 19, 0.05)
    assert (found.coverage, found.error) == (1.0, 0.05)
    assert found.value == pytest.approx(0.5, abs=1e-5)
    assert found.bound == pytest.approx(stats.beta.ppf(0.95, 2, 19))
    none = choose_threshold(np.linspace(0.9, 0.5, 20), np.zeros(20, dtype=bool), 0.05)
    assert none == Threshold(1.0, 0.0, 0.0, 1.0)


def test_rows_of_one_score_are_answered_together() -> None:
    scores = np.array([0.9] * 10 + [0.6] * 10)
    right = np.array([True] * 15 + [False] * 5)
    found = choose_threshold(scores, right, 0.1)
    assert (found.coverage, found.error) == (0.5, 0.0)
    assert found.value == pytest.approx(0.75)


def test_what_is_promised_holds_on_new_rows() -> None:
    """Over 200 draws of 400 held-out rows: where the bound is met, in nine of ten the true error is, too."""
    random, broken, assured = np.random.default_rng(2), 0, 0
    for _ in range(200):
        scores = random.beta(4, 1, size=400)
        found = choose_threshold(scores, random.random(400) < scores, 0.1)
        new = random.beta(4, 1, size=5_000)
        right = random.random(5_000) < new
        assured += found.bound <= 0.1
        broken += found.bound <= 0.1 and 1 - right[new >= found.value].mean() > 0.1
    assert assured > 150
    assert broken <= 0.1 * assured


@pytest.mark.parametrize(
    "task",
    [
        MultiLabel(ABC, Metric("micro_f1")),
        Regression(("stars",), Metric("mae")),
    ],
)
def test_what_cannot_abstain_is_refused_by_words(task: Task) -> None:
    with pytest.raises(ConfigError, match=f"a {task.kind} task has no single label to withhold; .* leave it"):
        check_abstain(0.05, task)
    check_abstain(None, task)
    check_abstain(0.05, ONE)


def test_a_regression_has_no_temperature() -> None:
    task = Regression(("stars",), Metric("mae"))
    found = calibrate(task, np.zeros((50, 1), dtype=np.float32), [0.0] * 50)
    assert found == Calibration(50)
    spec = HeadSpec("regression", ("stars",))
    assert found.applied(spec) == spec


@pytest.mark.parametrize("kind", ["single_sentence", "multi_label", "multiple_choice"])
def test_a_file_keeps_what_was_found_and_answers_by_it(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, kind: str
) -> None:
    folder, out, told = task_folder(kind), tmp_path / "a.safetensors", Told()
    error = None if kind == "multi_label" else 0.2
    result = train(quick(folder, out, abstain=error), backbone=backbone, progress=told, verify=agree)
    manifest = read_adapter_file(out).manifest
    assert manifest.schema_version == 2
    assert manifest.head.temperature == result.calibration.temperature
    assert any("held-out rows: log loss" in note for note in told.notes)
    found = evaluate_file(out, folder, backbone=backbone)
    assert found.answering.after is not None
    assert result.calibration.after is not None
    assert vars(found.answering.after) == pytest.approx(vars(result.calibration.after), abs=1e-5)
    spec, chosen = spec_of(manifest.head), manifest.head.abstain
    assert (chosen is not None) == (error is not None)
    if chosen is not None:
        assert result.calibration.abstain == spec.abstain
        assert found.answering.coverage == pytest.approx(chosen.coverage)
        assert sum(not row.unknown for row in found.rows) == round(chosen.coverage * len(found.rows))
        wrong = sum(row.label not in (None, row.expected) for row in found.rows)
        assert chosen.error == pytest.approx(wrong / max(1, round(chosen.coverage * len(found.rows))))


def test_abstaining_is_refused_before_anything_is_trained(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    config = quick(task_folder("regression"), tmp_path / "a.safetensors", abstain=0.05)
    with pytest.raises(ConfigError, match=r"abstain is 0.05, and a regression task has no single label"):
        train(config, backbone=backbone, progress=Told(), verify=agree)
    assert not list(tmp_path.glob("a.safetensors*"))


@pytest.mark.parametrize("kind", ["single_sentence", "multi_label"])
def test_a_pruned_file_is_calibrated_anew(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, kind: str
) -> None:
    """On its own logits; as if it had been trained so."""
    folder, out, small = task_folder(kind), tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    error = None if kind == "multi_label" else 0.2
    config = quick(folder, out, abstain=error, lr=0.05, epochs=6)
    train(config, backbone=backbone, progress=Told(), verify=agree)
    prune_file(out, folder, keep=1, out=small, backbone=backbone, verify=agree)
    head = read_adapter_file(small).manifest.head
    found = evaluate_file(small, folder, backbone=backbone)
    again = calibrate(found.known, found.logits, found.targets, error)
    assert head.temperature == pytest.approx(again.temperature, rel=1e-3)
    assert head.temperature != read_adapter_file(out).manifest.head.temperature
    if error is not None:
        assert head.abstain is not None
        assert again.abstain is not None
        assert head.abstain.threshold == pytest.approx(again.abstain.threshold, rel=1e-3)
