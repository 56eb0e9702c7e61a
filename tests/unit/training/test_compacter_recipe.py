"""The paper's numbers by occasion, and how they meet the user's own."""

from typing import Any

import pytest

from training.settings.compacter_recipe import Occasion, recipe
from training.settings.config import Hyper, Situation, TrainConfig, resolve
from training.settings.defaults import DEFAULTS

GLUE = Occasion("mrpc", 3668, subsampled=False, hidden_size=768)


@pytest.mark.parametrize(
    ("official", "num_train", "epochs"),
    [
        ("mrpc", 3668, 20),
        ("superglue-wic", 5428, 20),
        ("sst2", 67_349, 3),
        ("superglue-multirc", 27_243, 3),
        (None, 9_999, 20),
        (None, 10_000, 3),
    ],
)
def test_epochs_by_task(official: str | None, num_train: int, epochs: int) -> None:
    assert recipe(Occasion(official, num_train, subsampled=False, hidden_size=768))["epochs"] == epochs


@pytest.mark.parametrize(
    ("rows", "epochs"), [(100, 1000), (500, 200), (1000, 100), (2000, 50), (4000, 25), (8000, 3)]
)
def test_epochs_of_the_low_resource_study(rows: int, epochs: int) -> None:
    found = recipe(Occasion("sst2", rows, subsampled=True, hidden_size=768))
    assert found["epochs"] == epochs
    assert (found["batch_size"], found["evaluate_steps"]) == ((40, 250) if rows <= 4000 else (100, 0))


@pytest.mark.parametrize(
    ("official", "hidden", "warmup", "batch", "tokens"),
    [
        ("mrpc", 768, 500, 100, 128),
        ("mrpc", 512, 0, 100, 128),
        ("superglue-cb", 768, 0, 32, 256),
        ("superglue-record", 768, 0, 16, 512),
    ],
)
def test_warm_up_batch_and_length(official: str, hidden: int, warmup: int, batch: int, tokens: int) -> None:
    found = recipe(Occasion(official, 3668, subsampled=False, hidden_size=hidden))
    assert (found["warmup_steps"], found["batch_size"], found["max_tokens"]) == (warmup, batch, tokens)
    assert found["batch_tokens"] == batch * tokens


def settled(official: str | None = "mrpc", num_train: int = 3668, **changes: Any) -> Hyper:
    given: dict[str, Any] = {"data": "d", "task": "t", "recipe": "compacter", "form": "text-to-text"}
    situation = Situation(official, num_train, False, 768, 512, 0, ("eos",))
    return resolve(TrainConfig(**(given | changes)), situation=situation)


def test_the_recipe_fills_what_the_user_left_open() -> None:
    hyper = settled(method="compacter")
    assert (hyper.epochs, hyper.lr, hyper.batch_size, hyper.warmup_steps) == (20, 3e-3, 100, 500)
    assert (hyper.weight_decay, hyper.patience, hyper.fit_head, hyper.refit) == (0.0, None, False, "none")
    own = settled(method="compacter", epochs=7, lr=1e-4, batch_size=8, warmup=0.1)
    assert (own.epochs, own.lr, own.batch_size, own.warmup, own.warmup_steps) == (7, 1e-4, 8, 0.1, 0)


def test_a_head_is_trained_with_the_body_at_its_rate() -> None:
    hyper = settled(method="houlsby", form="head")
    assert (hyper.fit_head, hyper.lr, hyper.lr_head_stage2, hyper.pooling) == (False, 3e-4, 3e-4, "eos")


PUBLISHED = {
    "full": 3e-4,
    "houlsby": 3e-4,
    "pfeiffer": 3e-4,
    "adapter_drop": 3e-4,
    "low_rank_adapter": 3e-3,
    "compacter": 3e-3,
    "compacter_pp": 3e-3,
    "phm": 3e-3,
    "prompt_tuning": 3e-2,
    "intrinsic_said": 3e-2,
    "bitfit": 3e-4,
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_published_rates_are_used_for_text_with_and_without_the_recipe(method: str) -> None:
    assert settled(method=method).lr == PUBLISHED[method]
    assert settled(method=method, recipe=None).lr == PUBLISHED[method]
    assert settled(method=method, recipe=None, form="head").lr == DEFAULTS[method].lr


def test_a_prompt_that_starts_at_words_has_a_rate_of_its_own() -> None:
    assert settled(method="prompt_tuning", method_config={"start": "vocabulary"}).lr == 3e-1


def test_a_method_outside_the_paper_keeps_its_own_rate() -> None:
    assert settled(method="hadamard").lr == DEFAULTS["hadamard"].lr


def test_warm_up_steps_are_a_share_of_the_steps_and_evaluations_are_spaced() -> None:
    hyper = settled(method="compacter")
    assert hyper.warmup_for(740) == pytest.approx(500 / 740)
    assert hyper.warmup_for(100) == 1.0
    assert settled(warmup_steps=0, warmup=0.06, method="compacter").warmup_for(740) == 0.06
    assert settled(evaluate_steps=250).evaluate_every(3) == 84
    assert settled().evaluate_every(3) == 1


def test_limits_of_the_backbone_hold_for_defaults() -> None:
    config = TrainConfig(data="d", task="t")
    hyper = resolve(config, situation=Situation(None, 10, False, 32, 64, 20, ("first", "unit")))
    assert (hyper.max_tokens, hyper.pooling) == (44, "unit")
    other = resolve(config, situation=Situation(None, 10, False, 32, 512, 20, ("eos", "mean")))
    assert (other.max_tokens, other.pooling) == (128, "eos")
    own = resolve(
        TrainConfig(data="d", task="t", max_tokens=60, pooling="first"),
        situation=Situation(None, 10, False, 32, 64, 20, ("eos",)),
    )
    assert (own.max_tokens, own.pooling) == (60, "first")  # refused later, with the backbone's name
