"""What a run tells when it went through and is doubtful: below the head alone, all warm-up, no effect."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modeling import METHODS, Adapter, Backbone
from tests.conformance.options import tiny_options
from tests.unit.training.conftest import Told, agree, quick
from training.errors import ConfigError
from training.loop.fit import EpochRecord, Evaluation, StageResult
from training.metrics.scores import Metric
from training.report.cautions import cautions_of
from training.report.result import SeedOutcome, TrainResult
from training.run import train
from training.settings.config import TrainConfig
from training.tasks import Baseline
from training.tasks.single_label import SingleLabel


def run(config: TrainConfig, backbone: Backbone, told: Told | None = None) -> TrainResult:
    return train(config, progress=told or Told(), backbone=backbone, verify=agree)


def shifted(evaluation: Evaluation, by: float) -> Evaluation:
    return replace(evaluation, value=evaluation.value + by)


def test_a_run_below_the_head_alone_is_told_with_both_numbers(backbone: Backbone) -> None:
    """By too little to leave the adapter away."""
    task = SingleLabel(("a", "b"), Metric("accuracy"))
    found = Evaluation({"accuracy": 0.8}, 0.8, 0.5, np.eye(2, dtype=np.float32), task)
    head, body = StageResult(found, 1, ()), StageResult(shifted(found, -0.02), 3, ())
    prompt = METHODS["prompt_tuning"].from_config(tiny_options("prompt_tuning"))
    adapter = Adapter.create(backbone, prompt, task.spec("mean"), seed=0)
    outcome = SeedOutcome(0, adapter, head, body, body.best)
    told = cautions_of(outcome, "prompt_tuning", Baseline("majority", {"accuracy": 0.5}))
    (warning,) = [text for text in told if "head alone" in text]
    assert "accuracy 0.7800 is worse than the 0.8000 of the head alone: prompt_tuning" in warning
    assert "more epochs, a higher --lr, or another method" in warning
    assert not any("stage two found nothing better" in text for text in told)
    up = replace(outcome, chosen=shifted(found, 0.02))
    assert cautions_of(up, "prompt_tuning", Baseline("majority", {"accuracy": 0.5})) == ()


@pytest.mark.parametrize(
    ("losses", "by", "told"),
    [
        ((0.9, 0.8), -0.02, "has not made up for where it began; give more epochs"),
        ((0.9, 0.1), -0.02, "fits the train rows and gains nothing on held-out ones; give more rows"),
        ((0.9, 0.1), 0.0, "no difference on held-out rows between hadamard and the head alone"),
        ((0.9, 0.8), 0.02, None),
    ],
)
def test_advice_tells_learning_too_much_from_learning_too_little(
    backbone: Backbone, losses: tuple[float, float], by: float, told: str | None
) -> None:
    task = SingleLabel(("a", "b"), Metric("accuracy"))
    found = Evaluation({"accuracy": 0.8}, 0.8, 0.5, np.eye(2, dtype=np.float32), task)
    history = tuple(EpochRecord("adapter", 1 + epoch, loss, 0.5, {}) for epoch, loss in enumerate(losses))
    head, body = StageResult(found, 1, ()), StageResult(shifted(found, by), 2, history)
    adapter = Adapter.create(backbone, METHODS["hadamard"](), task.spec("mean"), seed=0)
    outcome = SeedOutcome(0, adapter, head, body, body.best)
    warnings = cautions_of(outcome, "hadamard", Baseline("majority", {"accuracy": 0.5}))
    assert len(warnings) == (told is not None)
    assert told is None or told in warnings[0]


@pytest.mark.parametrize("has_head", [True, False])
def test_a_loss_of_nought_from_the_start_is_told_of_the_head_where_there_is_one(
    backbone: Backbone, has_head: bool
) -> None:
    task = SingleLabel(("a", "b"), Metric("accuracy"))
    found = Evaluation({"accuracy": 0.8}, 0.8, 0.5, np.eye(2, dtype=np.float32), task)
    body = StageResult(shifted(found, 0.1), 1, (EpochRecord("adapter", 1, 0.001, 0.5, {}),))
    adapter = Adapter.create(backbone, METHODS["hadamard"](), task.spec("mean"), seed=0)
    head = StageResult(found, 1, ()) if has_head else None
    outcome = SeedOutcome(0, adapter, head, body, body.best)
    (warning,) = cautions_of(outcome, "hadamard", Baseline("majority", {"accuracy": 0.5}))
    assert ("--head-start" in warning) is has_head
    assert ("the frozen backbone tells the train rows apart" in warning) is not has_head


def test_an_adapter_that_is_clearly_worse_is_left_away_and_that_is_told(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    told = Told()
    config = quick(task_folder(), tmp_path / "a.safetensors", lr=5.0, refit="none")
    result = run(config, backbone, told)
    assert result.head_metrics is not None
    assert (result.method, result.num_body_parameters) == ("linear_probe", 0)
    assert result.value == result.head_metrics["accuracy"]
    (warning,) = [text for text in result.warnings if "head alone" in text]
    assert warning.startswith("hadamard found nothing: accuracy is 0.")
    assert (
        f"with it and {result.value:.4f} for the head alone, so the file holds that (linear_probe)" in warning
    )
    assert warning in told.notes


def test_more_warm_up_steps_than_steps_are_refused_before_anything_is_trained(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    """60 rows are 8 batches, three times over."""
    folder, out = task_folder(), tmp_path / "a.safetensors"
    told = Told()
    with pytest.raises(ConfigError, match="warmup_steps is 500, and stage adapter has 24 steps: .*under 24"):
        run(quick(folder, out, warmup_steps=500), backbone, told)
    assert told.losses == []
    with pytest.raises(ConfigError, match="warmup_steps is 24, .*more epochs, or --warmup 0.06"):
        run(quick(folder, out, warmup_steps=24), backbone)
    assert not any("warmup" in text for text in run(quick(folder, out, warmup_steps=23), backbone).warnings)


def test_a_recipes_warm_up_on_small_data_is_told_and_nothing_else_is_blamed(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = "training.settings.compacter_recipe._T5_SMALL_HIDDEN"
    monkeypatch.setattr(hidden, 8)  # the tiny model counts as wide
    config = quick(
        task_folder(), tmp_path / "a.safetensors", recipe="compacter", lr=1e-9, lr_head_stage2=1e-9
    )
    told = Told()
    result = run(config, backbone, told)
    (warning,) = [text for text in result.warnings if "warmup_steps" in text]
    assert warning.startswith("warmup_steps is 500, and stage adapter has 24 steps")
    assert "--warmup 0.06" in warning
    assert not any("stage two found nothing better" in text for text in result.warnings)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (57, "tokens is 57; tiny-bert has 64 positions, of which a text needs at least 8: allowed: 1 to 56"),
        (600, "method prompt_tuning: tokens is 600; .*allowed: 1 to 56; lower it .--method-config tokens="),
    ],
)
def test_a_prompt_that_leaves_no_room_names_its_option(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, tokens: int, message: str
) -> None:
    changes: dict[str, Any] = {"method": "prompt_tuning", "method_config": {"tokens": tokens}}
    for max_tokens in (None, 32):
        with pytest.raises(ConfigError, match=message):
            run(quick(task_folder(), tmp_path / "a.safetensors", max_tokens=max_tokens, **changes), backbone)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("compacter", {"bottleneck": 8, "division": 5}, r"^compacter on tiny-bert: .*division"),
        (
            "hadamard",
            {"layers": [7]},
            r"^hadamard on tiny-bert: layers \[7\]: this backbone has layers 0 to 1",
        ),
    ],
)
def test_options_that_do_not_fit_are_told_in_the_methods_own_words(
    task_folder: Callable[..., Path],
    tmp_path: Path,
    backbone: Backbone,
    method: str,
    options: dict[str, Any],
    message: str,
) -> None:
    config = quick(task_folder(), tmp_path / "a.safetensors", method=method, method_config=options)
    with pytest.raises(ConfigError, match=message) as refused:
        run(config, backbone)
    assert "allowed: options that fit" not in str(refused.value)
    assert "got" not in str(refused.value)
    assert "train for this backbone" not in str(refused.value)
