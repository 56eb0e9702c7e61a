"""Every method in one mixed burst over HTTP: each answers as if alone, exclusive ones from their own batches.

The backbone is a tiny BERT; the tasks take every form that an encoder answers, in turns.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modeling import METHODS, Backbone, HeadSpec, readout_of
from service.engine.items import num_rows_of
from service.settings import Settings
from tests.conformance.checks import WORD_SPECS, exclusive
from tests.integration.forms import (
    Served,
    device_busy,
    item_of,
    logits_alone,
    served,
    slot_of,
    watched,
)
from tests.integration.world import TEXTS, Live, assert_close, wait_for

FORMS = [
    HeadSpec("single_label", ("no", "yes")),
    HeadSpec("multiple_choice", ("choice",)),
    HeadSpec("multi_label", ("a", "b", "c"), threshold=0.4),
    HeadSpec("single_label", tuple(f"topic {k}" for k in range(7)), pooling="first"),
    HeadSpec("regression", ("value",)),
    HeadSpec("single_label", ("other", "same"), pooling="apart"),
    *WORD_SPECS,
]
# Always among them, whatever else is registered; linear_probe is the bare row.
NAMED = {"hadamard", "compacter", "houlsby", "bitfit", "lora", "ia3", "prompt_tuning", "linear_probe"}
METHOD_NAMES = sorted(METHODS)
MIXING = [name for name in METHOD_NAMES if not exclusive(name)]
EXCLUSIVE = [name for name in METHOD_NAMES if exclusive(name)]
ITEMS = 5


def task_of(method: str) -> str:
    return method.replace("_", "-")


@pytest.fixture(scope="module")
def tasks(backbone: Backbone) -> dict[str, Served]:
    """One task per method, by its method."""
    return {
        method: served(backbone, task_of(method), method, FORMS[number % len(FORMS)], seed=number)
        for number, method in enumerate(METHOD_NAMES)
    }


@pytest.fixture(scope="module")
def wanted(backbone: Backbone, tasks: dict[str, Served]) -> dict[tuple[str, int], list[float]]:
    """The logits of the first items of every method's task, each row alone."""
    return {
        (method, number): logits_alone(backbone, task.adapter, item_of(task.spec, number))
        for method, task in tasks.items()
        for number in range(ITEMS)
    }


@pytest.fixture(scope="module")
def live(
    backbone_folder: Path, tasks: dict[str, Served], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """Every task on one server, whose batches have room for a whole burst."""
    store = tmp_path_factory.mktemp("methods") / "store"
    settings = Settings(
        backbone=str(backbone_folder), store=store, device="cpu", max_batch_tokens=100_000, startup_probes=8
    )
    with Live(settings) as server:
        for task in tasks.values():
            response = server.push(task.name, task.data)
            assert response.status_code == 201, response.text
            assert response.json()["probes"]["count"] == 8
        yield server


def ask(live: Live, task: Served, numbers: list[int]) -> list[Any]:
    """The predictions for some items of a task."""
    items = [item_of(task.spec, number) for number in numbers]
    predictions: list[Any] = live.predict(task.name, items, raw=True)["predictions"]
    return predictions


def test_the_named_methods_are_there() -> None:
    assert set(MIXING) >= NAMED
    assert "intrinsic_said" in EXCLUSIVE


def test_a_mixed_burst_is_answered_as_if_alone(
    live: Live,
    tasks: dict[str, Served],
    wanted: dict[tuple[str, int], list[float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = list(range(ITEMS))
    engine = live.service.parts.engine
    with ThreadPoolExecutor(len(tasks)) as pool, watched(live, monkeypatch) as batches:
        with device_busy(live):
            asked = {method: pool.submit(ask, live, task, numbers) for method, task in tasks.items()}
            items = [item_of(task.spec, number) for task in tasks.values() for number in numbers]
            num_rows = sum(map(num_rows_of, items))  # an item with choices is several
            wait_for(lambda: engine.scheduler.waiting_rows == num_rows)
        found = {method: future.result(60) for method, future in asked.items()}
    for method, predictions in found.items():
        for number, prediction in enumerate(predictions):
            assert_close(np.ravel(prediction["logits"]), wanted[method, number])
    check_batches(live, batches.read)
    mixing = {slot_of(live, task_of(method)) for method in MIXING}
    assert 0 in mixing  # the bare row
    assert any(set(batch) == mixing for batch in batches.read), "not all of them shared a batch"
    assert not batches.written


def check_batches(live: Live, batches: list[list[int]]) -> None:
    """Every batch with an exclusive adapter holds only it; and each has had one."""
    for method in EXCLUSIVE:
        own = slot_of(live, task_of(method))
        with_it = [set(batch) for batch in batches if own in batch]
        assert with_it
        assert all(batch == {own} for batch in with_it)


def test_bursts_at_random(
    live: Live,
    tasks: dict[str, Served],
    wanted: dict[tuple[str, int], list[float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calls of one to all items from many clients at once, as they come."""
    rng = random.Random(11)
    calls = [(method, rng.sample(range(ITEMS), rng.randint(1, ITEMS))) for method in METHOD_NAMES * 6]
    rng.shuffle(calls)
    with ThreadPoolExecutor(16) as pool, watched(live, monkeypatch) as batches:
        found = list(pool.map(lambda call: ask(live, tasks[call[0]], call[1]), calls))
    for (method, numbers), predictions in zip(calls, found, strict=True):
        for number, prediction in zip(numbers, predictions, strict=True):
            assert_close(np.ravel(prediction["logits"]), wanted[method, number])
    check_batches(live, batches.read)


def test_all_tasks_in_one_request(live: Live, backbone: Backbone, tasks: dict[str, Served]) -> None:
    """Also those of one text: the others say what they miss."""
    names = [task.name for task in tasks.values()]
    results = live.predict(names, TEXTS[:3], raw=True)["results"]
    for task, result in zip(tasks.values(), results, strict=True):
        for text, prediction in zip(TEXTS[:3], result["predictions"], strict=True):
            if task.spec.kind == "multiple_choice":
                assert prediction["error"]["code"] == "choices_required"
            elif readout_of(task.spec).pairs:
                assert prediction["error"]["code"] == "text_pair_required"
            else:
                assert_close(np.ravel(prediction["logits"]), logits_alone(backbone, task.adapter, text))


def test_choices_are_answered_by_their_texts(live: Live, tasks: dict[str, Served]) -> None:
    task = next(task for task in tasks.values() if task.spec.kind == "multiple_choice")
    item = {"text": TEXTS[1], "choices": [TEXTS[2], TEXTS[3], TEXTS[4]]}
    found = live.predict(task.name, item, top_k=2)["predictions"][0]
    assert found["label"] == item["choices"][found["index"]] == next(iter(found["scores"]))
    assert len(found["scores"]) == 2
    assert found["score"] == found["scores"][found["label"]]
    backwards = {"text": TEXTS[1], "choices": item["choices"][::-1]}
    again = live.predict(task.name, backwards, top_k=2)["predictions"][0]
    assert (again["label"], again["index"]) == (found["label"], 2 - found["index"])
    assert again["score"] == pytest.approx(found["score"], rel=1e-4)


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"text": "w1", "choices": ["w2"]}, "invalid_choices"),
        ({"text": "w1", "choices": ["w2", "w2"]}, "invalid_choices"),
        ({"text": "w1", "choices": ["w2", 3]}, "invalid_choices"),
        ({"text": "w1", "choices": [f"w{k}" for k in range(101)]}, "invalid_choices"),
        ({"text": "w1", "text_pair": "w2", "choices": ["w3", "w4"]}, "invalid_item"),
        ("w1", "choices_required"),
        ({"text": "w1", "text_pair": "w2"}, "choices_required"),
        ({"text": "w1", "choices": ["w2", "w3 " * 60]}, "too_long"),
    ],
)
def test_a_wrong_item_fails_alone_among_choices(
    live: Live, tasks: dict[str, Served], item: Any, code: str
) -> None:
    task = next(task for task in tasks.values() if task.spec.kind == "multiple_choice")
    good = item_of(task.spec, 0)
    found = live.predict(task.name, [good, item, good])["predictions"]
    assert ("index" in found[0], "index" in found[2]) == (True, True)
    assert (found[1]["error"]["code"], found[1]["error"]["index"]) == (code, 1)
    alone = live.ask(task.name, item)
    assert (alone.status_code, alone.json()["code"]) == (422, code)


def test_a_task_without_choices_refuses_them(live: Live) -> None:
    task = next(name for name in MIXING if FORMS[METHOD_NAMES.index(name) % len(FORMS)].kind == "regression")
    found = live.ask(task_of(task), {"text": "w1", "choices": ["w2", "w3"]})
    assert (found.status_code, found.json()["code"]) == (422, "choices_not_allowed")
    assert "is a regression" in found.json()["detail"]


def test_exclusive_batches_are_counted(live: Live, tasks: dict[str, Served]) -> None:
    def passes(kind: str) -> float:
        line = f'trunkline_passes_total{{kind="{kind}"}} '
        found = [row for row in live.http.get("/metrics").text.splitlines() if row.startswith(line)]
        return float(found[0].removeprefix(line)) if found else 0.0

    before = passes("exclusive"), passes("mixed")
    ask(live, tasks["intrinsic_said"], [0, 1])
    assert (passes("exclusive"), passes("mixed")) == (before[0] + 1, before[1])
    ask(live, tasks["hadamard"], [0, 1])
    assert (passes("exclusive"), passes("mixed")) == (before[0] + 1, before[1] + 1)


def test_a_restart_loads_every_method(live: Live, tasks: dict[str, Served]) -> None:
    """From the same store: probes are replayed again, exclusive ones apart."""
    settings = live.service.settings
    with Live(settings) as again:
        listed = again.http.get("/v1/tasks").json()["tasks"]
        states = {task["task"]: task["versions"][0]["state"] for task in listed}
        assert states == {task.name: "resident" for task in tasks.values()}


def test_a_prompt_that_leaves_no_room_for_the_text_is_refused(live: Live, backbone: Backbone) -> None:
    """64 positions: 5 virtual tokens and 60 of text are too many."""
    one = served(backbone, "crowded", "prompt_tuning", FORMS[0], max_tokens=60)
    response = live.push(one.name, one.data)
    assert response.status_code == 422
    (problem,) = response.json()["errors"]
    assert problem["field"] == "manifest.input.max_tokens"
    assert problem["got"] == "60"
    assert "at most 59: the method puts 5 virtual tokens" in problem["allowed"]
    fits = served(backbone, "roomy", "prompt_tuning", FORMS[0], max_tokens=59)
    assert live.push(fits.name, fits.data).status_code == 201
    longest = " ".join(["w1"] * 57)
    logits = live.predict("roomy", [longest], raw=True)["predictions"][0]["logits"]
    assert_close(logits, logits_alone(backbone, fits.adapter, longest))
    over = live.ask("roomy", f"{longest} w1").json()
    assert over["code"] == "too_long"
    assert live.http.delete("/v1/tasks/roomy").status_code == 204


def test_info_names_families_methods_and_kinds(live: Live) -> None:
    info = live.http.get("/v1/info").json()
    assert set(info["methods"]) == set(METHODS)
    assert {"bert", "t5", "bart"} <= set(info["families"])
    assert {"multiple_choice", "text_to_text"} <= set(info["kinds"])
