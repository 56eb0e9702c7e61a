"""The settings of a run: limits, messages, and how gaps are filled."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from training.errors import ConfigError
from training.settings.config import Hyper, Situation, TrainConfig, resolve
from training.settings.defaults import DEFAULTS


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**({"data": "d", "task": "t"} | changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", None),
        ("task", "../up"),
        ("task", "Upper"),
        ("task", "a" * 65),
        ("epochs", -1),
        ("epochs", True),
        ("epochs", 1.5),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("warmup", 1.0),
        ("pooling", "max"),
        ("device", "tpu"),
        ("file_dtype", "int8"),
        ("form", "text"),
        ("recipe", "secret"),
        ("split_rule", "half"),
        ("targets", "letters"),
        ("warmup_steps", -1),
        ("choice_fields", ()),
        ("seeds", 0),
        ("max_tokens", 4),
        ("text_fields", ("a", "a")),
        ("label_names", ("a", "a")),
        ("validation_fraction", 0.0),
        ("method_config", {"layers": object()}),
    ],
)
def test_a_bad_value_is_named_with_what_was_found(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        config(**{name: value})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        config(task="No", epochs=-1, lr=99)
    assert all(name in str(caught.value) for name in ("task", "epochs", "lr"))


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="class_weights has no meaning for text-to-text; leave it at none"):
        config(class_weights="auto", form="text-to-text")


@pytest.mark.parametrize(
    ("name", "value"),
    [("format", "rte"), ("targets", "words"), ("task_prefix", False), ("official_code", True)],
)
def test_a_setting_of_text_to_text_needs_that_form(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} belongs to --form text-to-text"):
        config(**{name: value})
    assert getattr(config(form="text-to-text", **{name: value}), name) == value


def test_text_and_choices_take_any_number_of_fields() -> None:
    fields = ("word", "sentence1", "sentence2")
    assert config(form="text-to-text", text_fields=fields).text_fields == fields
    assert config(kind="multiple_choice", text_fields=fields).text_fields == fields


def test_a_config_is_frozen_and_plain_json() -> None:
    first = config(text_fields=("a", "b"), method_config={"norm": "both"}, lr=0.1)
    again = json.loads(json.dumps(first.to_dict()))
    assert again["text_fields"] == ["a", "b"]
    assert TrainConfig(**again | {"text_fields": ("a", "b")}) == first
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.lr = 1.0  # type: ignore[misc]


def test_the_public_form_has_no_folders_of_this_machine() -> None:
    public = config(
        data="/home/me/data", out="/tmp/x/a.safetensors", class_weights="/w/weights.json"
    ).public_dict()
    assert (public["data"], public["out"], public["class_weights"]) == (
        "data",
        "a.safetensors",
        "weights.json",
    )


def test_gaps_are_filled_from_the_row_of_the_method_and_then_from_the_settings() -> None:
    hyper = resolve(config(method="bitfit", epochs=9))
    row = DEFAULTS["bitfit"]
    assert (hyper.epochs, hyper.lr, hyper.lr_head_stage2, hyper.pooling) == (9, row.lr, 1e-2, "unit")
    assert (row.lr_head_stage2, row.pooling) == (None, None)
    assert (row.epochs, DEFAULTS["linear_probe"].epochs, resolve(config(method="linear_probe")).epochs) == (
        None,
        0,
        0,
    )
    assert resolve(config(method="full")).lr == DEFAULTS["full"].lr


@pytest.mark.parametrize(
    ("rows", "epochs"),
    [(1, 20), (200, 20), (201, 10), (400, 10), (1000, 4), (4000, 3), (4001, 2), (400_000, 2)],
)
def test_fewer_rows_get_more_epochs_unless_epochs_are_given(rows: int, epochs: int) -> None:
    situation = Situation(None, rows, False, 32, 64, 0, ("unit",))
    assert resolve(config(), situation).epochs == epochs
    assert resolve(config(epochs=7), situation).epochs == 7
    assert resolve(config(method="linear_probe"), situation).epochs == 0


def test_the_hadamard_recipe_is_the_papers_two_stages() -> None:
    """The head alone, then the adapter under it, as it is; on the model's own pooling."""
    for poolings, pooling in ((("unit", "first", "pooler"), "pooler"), (("unit", "first"), "first")):
        situation = Situation(None, 5000, False, 32, 64, 0, poolings)
        hyper = resolve(config(recipe="hadamard"), situation)
        assert (hyper.fit_head, hyper.train_head, hyper.head_start, hyper.refit) == (True, False, 1.0, "none")
        assert (hyper.epochs, hyper.pooling) == (5, pooling)
        own = resolve(config(recipe="hadamard", epochs=2, pooling="unit", train_head=True), situation)
        assert (own.epochs, own.pooling, own.train_head) == (2, "unit", True)


def test_a_method_without_a_row_trains_too() -> None:
    assert (resolve(config(method="of-tomorrow")).epochs, resolve(config(method="another")).lr) == (5, 3e-3)


def test_every_setting_has_a_sentence_of_help() -> None:
    assert [f.name for f in dataclasses.fields(TrainConfig) if not f.metadata.get("help")] == []


def test_every_number_of_a_run_is_a_setting() -> None:
    settings = {f.name for f in dataclasses.fields(TrainConfig)}
    assert {f.name for f in dataclasses.fields(Hyper)} <= settings


def test_settings_are_read_without_heavy_libraries() -> None:
    heavy = ("torch", "sklearn", "numpy")
    code = f"import sys, training.settings.config; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
