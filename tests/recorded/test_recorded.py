"""Files, a store and an interface of 7a39e30: today's code loads them and answers as that code did.

Within 1e-5, the published tolerance: processors round in their own ways (with AVX2 a logit is off by 2e-6).
Bit for bit with TRUNKLINE_SAME_BITS=1, on one thread of an x86-64 processor with AVX-512, as recorded.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from modeling import METHODS, Backbone, ServedModel, load_backbone
from tests.recorded import answers
from tests.unit.training.conftest import write_task, write_text_task
from tests.unit.training.test_free_text import write_answers
from training.file.evaluate import evaluate_file

HERE = Path(__file__).parent
SAME_BITS = os.environ.get("TRUNKLINE_SAME_BITS") == "1"  # read here: a test sees no such variables
RECORDED: dict[str, Any] = json.loads((HERE / "answers.json").read_text(encoding="utf-8"))
BACKBONES = sorted(RECORDED["backbones"])
TASKS = [(name, task) for name in BACKBONES for task in sorted(RECORDED["backbones"][name]["alone"])]


def assert_same(got: Any, wanted: Any, where: str = "") -> None:
    """Equal JSON values, keys in the same order; numbers as the module says."""
    if isinstance(wanted, dict):
        assert list(got) == list(wanted), where
        for key in wanted:
            assert_same(got[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), where
        for index, (one, other) in enumerate(zip(got, wanted, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif isinstance(wanted, float) and not SAME_BITS:
        assert got == pytest.approx(wanted, rel=1e-5, abs=1e-5), where
    else:
        assert type(got) is type(wanted), where
        assert got == wanted, where


def data_of(task: str) -> bytes:
    return (HERE / "files" / f"{task}.safetensors").read_bytes()


@cache
def backbone_of(name: str) -> Backbone:
    return load_backbone(str(HERE / "backbones" / name))


def items_of(form: str) -> Any:
    return RECORDED["items"][form]


def test_every_file_is_asked() -> None:
    assert sorted(task for _, task in TASKS) == sorted(p.stem for p in (HERE / "files").iterdir())
    asked = {RECORDED["backbones"][name]["alone"][task]["check"]["method"] for name, task in TASKS}
    assert asked <= set(METHODS)
    assert len(asked) == 16


@pytest.mark.parametrize(("name", "task"), TASKS, ids=[task for _, task in TASKS])
def test_a_file_answers_alone(name: str, task: str) -> None:
    wanted = RECORDED["backbones"][name]["alone"][task]
    model, items = ServedModel(backbone_of(name)), items_of(wanted["form"])
    installed = answers.install(model, data_of(task))
    (logits,) = answers.logits_of(model, [(installed, items)])
    assert_same(logits, wanted["logits"])
    if wanted["answers"]:
        assert_same([answers.decided(installed.spec, row) for row in logits], wanted["answers"])
    if wanted["written"]:
        assert answers.written(model, installed, items) == wanted["written"]
    assert answers.check(data_of(task), backbone_of(name)) == wanted["check"]


@pytest.mark.parametrize("name", BACKBONES)
def test_files_answer_in_one_batch(name: str) -> None:
    wanted = RECORDED["backbones"][name]
    model = ServedModel(backbone_of(name))
    asked = [
        (answers.install(model, data_of(task)), items_of(wanted["alone"][task]["form"]))
        for task in wanted["mixed"]
    ]
    assert not any(answers.is_exclusive(model, task) for task, _ in asked)
    assert_same(answers.logits_of(model, asked), list(wanted["mixed"].values()))


@pytest.mark.parametrize("name", BACKBONES)
def test_files_are_uploaded_and_answer_over_http(name: str, tmp_path: Path) -> None:
    wanted = RECORDED["backbones"][name]
    files = {task: data_of(task) for task in wanted["alone"]}
    items = {task: items_of(alone["form"]) for task, alone in wanted["alone"].items()}
    found = answers.served(HERE / "backbones" / name, tmp_path / "store", files, items)
    assert_same(found, wanted["served"])


WRITERS: dict[str, Callable[[Path], Path]] = {
    "hadamard-half": lambda folder: write_task(folder, "single_sentence"),
    "bitfit": lambda folder: write_task(folder, "regression"),
    "compacter": lambda folder: write_task(folder, "multiple_choice"),
    "t5-multi": lambda folder: write_task(folder, "multi_label"),
    "bart-text-output": write_text_task,
    "t5-free-full": write_answers,
}


@pytest.mark.parametrize("task", WRITERS)
def test_a_file_evaluates_as_when_it_was_trained(task: str, tmp_path: Path) -> None:
    """Its manifest says how rows are read; the made-up data are those of its training."""
    (name,) = {name for name, known in TASKS if known == task}
    path = HERE / "files" / f"{task}.safetensors"
    found = evaluate_file(path, WRITERS[task](tmp_path), backbone=backbone_of(name))
    then = RECORDED["metrics"][task]  # there may be more of them since
    assert {name: found.metrics[name] for name in then} == pytest.approx(then, rel=1e-5)


def test_a_store_opens_as_it_was_left(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(HERE / "store", tmp_path / "store"))
    assert answers.contents(folder) == RECORDED["store"]
    assert len(list((folder / "adapters").rglob("*"))) >= 4


def test_the_interface_is_the_same() -> None:
    assert answers.openapi() == json.loads((HERE / "openapi.json").read_text(encoding="utf-8"))
