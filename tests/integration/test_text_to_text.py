"""Encoder-decoders over HTTP: label strings are scored, answers are written, heads read the end of the text.

Every answer is the one its task gives alone, whatever shares the batch.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from modeling import Backbone, HeadSpec, load_backbone
from service.settings import Settings
from service.state import Service
from tests.integration.forms import (
    Served,
    device_busy,
    item_of,
    logits_alone,
    save_model,
    served,
    slot_of,
    watched,
    written_alone,
)
from tests.integration.world import TEXTS, Live, assert_close, wait_for
from tests.tiny import answer

FAMILIES = ["t5", "bart"]
RTE = HeadSpec("text_to_text", ("w1", "w2 w3"), pooling="none")
SST2 = HeadSpec("text_to_text", ("w2", "w5", "w6 w7 w8"), pooling="none")
CLASSES = HeadSpec("single_label", ("no", "yes"), pooling="eos")
CHOICE = HeadSpec("multiple_choice", ("choice",), pooling="eos")
TASKS: dict[str, tuple[str, HeadSpec]] = {
    "rte": ("compacter", RTE),
    "sst2": ("bitfit", SST2),
    "zero-shot": ("linear_probe", SST2),
    "prompted": ("prompt_tuning", RTE),
    "said": ("intrinsic_said", SST2),
    "classes": ("hadamard", CLASSES),
    "bare-classes": ("linear_probe", CLASSES),
    "cause": ("houlsby", CHOICE),
}
WRITERS = [name for name, (_, spec) in TASKS.items() if spec.kind == "text_to_text"]
ITEMS = 6


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / f"tiny-{family}", family)


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    """As the server loads it: the tokenizer on disk knows which tokens are no text."""
    return load_backbone(str(folder))


@pytest.fixture(scope="module")
def tasks(backbone: Backbone) -> dict[str, Served]:
    return {
        name: served(backbone, name, method, spec, seed=seed)
        for seed, (name, (method, spec)) in enumerate(TASKS.items())
    }


@pytest.fixture(scope="module")
def live(folder: Path, tasks: dict[str, Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    store = tmp_path_factory.mktemp("text") / "store"
    with Live(Settings(backbone=str(folder), store=store, device="cpu", max_batch_tokens=50_000)) as server:
        for task in tasks.values():
            response = server.push(task.name, task.data)
            assert response.status_code == 201, response.text
        yield server


@pytest.mark.parametrize("name", TASKS)
def test_answers_are_those_of_the_task_alone(
    live: Live, backbone: Backbone, tasks: dict[str, Served], name: str
) -> None:
    task = tasks[name]
    items = [item_of(task.spec, number) for number in range(ITEMS)]
    got = live.predict(name, items, raw=True)
    assert got["task"] == name
    for item, prediction in zip(items, got["predictions"], strict=True):
        logits = logits_alone(backbone, task.adapter, item)
        assert_close(prediction["logits"], logits)
        wanted = answer(task.spec, np.array(logits))
        assert prediction["score"] == pytest.approx(wanted.score, rel=1e-4, abs=1e-5)
        if task.spec.kind == "multiple_choice":
            assert isinstance(item, dict)
            assert prediction["label"] == item["choices"][int(str(wanted.label))]
            assert prediction["index"] == int(str(wanted.label))
        else:
            assert prediction["label"] == wanted.label
            assert list(prediction["scores"]) == list(wanted.scores)
        if task.spec.kind == "text_to_text":
            assert sum(prediction["scores"].values()) == pytest.approx(1)


@pytest.mark.parametrize("max_new_tokens", [1, 7])
def test_what_is_written_is_what_the_task_writes_alone(
    live: Live, backbone: Backbone, tasks: dict[str, Served], max_new_tokens: int
) -> None:
    seen: list[tuple[str, str | None]] = []
    for name in WRITERS:
        texts = TEXTS[:ITEMS]
        got = live.predict(name, texts, generate=True, max_new_tokens=max_new_tokens)
        for text, prediction in zip(texts, got["predictions"], strict=True):
            wanted = written_alone(backbone, tasks[name].adapter, text, max_new_tokens)
            assert prediction["text"] == wanted
            assert prediction["label"] == (wanted if wanted in tasks[name].spec.labels else None)
            assert (prediction["score"], prediction["scores"]) == (None, {})
            assert prediction["tokens"] == len(backbone.text.encode([text])[0])
            seen.append((wanted, prediction["label"]))
    assert len({text for text, _ in seen}) > 2, "the tasks write the same whatever they are asked"
    if backbone.family.name == "t5" and max_new_tokens == 1:
        assert ("w2", "w2") in seen  # a label; and of the others some are none
    assert None in {label for _, label in seen}


def test_scores_and_texts_of_many_tasks_at_once(
    live: Live, backbone: Backbone, tasks: dict[str, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait together; what mixes shares a batch of scores and one of texts, the exclusive one neither."""
    texts, engine = TEXTS[:ITEMS], live.service.parts.engine
    with ThreadPoolExecutor(2 * len(WRITERS)) as pool, watched(live, monkeypatch) as batches:
        with device_busy(live):
            written = {n: pool.submit(live.predict, n, texts, generate=True) for n in WRITERS}
            read = {n: pool.submit(live.predict, n, texts, raw=True) for n in WRITERS}
            wait_for(lambda: engine.scheduler.waiting_rows == 2 * ITEMS * len(WRITERS))
        for name in WRITERS:
            adapter = tasks[name].adapter
            for text, one, other in zip(
                texts,
                written[name].result(60)["predictions"],
                read[name].result(60)["predictions"],
                strict=True,
            ):
                assert one["text"] == written_alone(backbone, adapter, text, 16)
                assert_close(other["logits"], logits_alone(backbone, adapter, text))
    own = slot_of(live, "said")
    mixing = {slot_of(live, name) for name in WRITERS} - {own}
    for seen in (batches.read, batches.written):
        assert sorted(map(sorted, map(set, seen))) == sorted([sorted(mixing), [own]])


def test_limits_of_what_may_be_written(live: Live, backbone: Backbone) -> None:
    limit = min(128, backbone.max_tokens)
    assert live.http.get("/v1/limits").json()["max_new_tokens"] == limit
    assert live.predict("rte", "w1", generate=True, max_new_tokens=limit)["predictions"][0]["text"]
    over = live.ask("rte", "w1", generate=True, max_new_tokens=limit + 1)
    assert over.status_code == 422
    assert over.json()["errors"][0]["allowed"] == f"1 to {limit}"


@pytest.mark.parametrize("names", [["classes"], ["rte", "classes", "cause"]])
def test_a_task_with_a_head_writes_nothing(live: Live, names: list[str]) -> None:
    response = live.ask(names[0] if len(names) == 1 else names, ["w1"], generate=True)
    assert response.status_code == 422
    assert response.json()["code"] == "generate_not_allowed"
    refused = [problem["got"] for problem in response.json()["errors"]]
    assert refused == [f"{name}: {TASKS[name][1].kind}" for name in names if name != "rte"]


def test_several_tasks_write_in_one_request(live: Live, backbone: Backbone, tasks: dict[str, Served]) -> None:
    results = live.predict(WRITERS, TEXTS[:3], generate=True, max_new_tokens=5)["results"]
    for name, result in zip(WRITERS, results, strict=True):
        for text, prediction in zip(TEXTS[:3], result["predictions"], strict=True):
            assert prediction["text"] == written_alone(backbone, tasks[name].adapter, text, 5)


def test_a_failing_item_fails_alone_also_when_texts_are_written(live: Live) -> None:
    found = live.predict("rte", ["w1", 5, "w1 " * 100], generate=True)["predictions"]
    assert "text" in found[0]
    assert [one["error"]["code"] for one in found[1:]] == ["invalid_item", "too_long"]
    assert live.ask("rte", 5, generate=True).status_code == 422


def test_a_head_is_no_part_of_text_to_text_and_needs_a_pooling_that_is_there(
    live: Live, backbone: Backbone
) -> None:
    from adapters_store import read_adapter, write_adapter

    good = read_adapter(served(backbone, "good", "bitfit", CLASSES).data)
    head = good.manifest.head.model_copy(update={"pooling": "mean"})
    data = write_adapter(good.manifest.model_copy(update={"head": head}), good.tensors)
    refused = live.push("good", data)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "head.pooling"


def test_a_label_longer_than_the_decoder_is_refused(live: Live, backbone: Backbone) -> None:
    from adapters_store import read_adapter, write_adapter

    good = read_adapter(served(backbone, "good", "linear_probe", RTE).data)
    longest = " ".join(["w"] * 100)  # 100 tokens; T5 takes 512, this BART 64
    head = good.manifest.head.model_copy(update={"labels": ["w1", longest]})
    response = live.push("good", write_adapter(good.manifest.model_copy(update={"head": head}), good.tensors))
    assert response.status_code == 422
    problem = response.json()["errors"][0]
    if backbone.max_tokens < 100:
        assert (problem["field"], problem["got"]) == ("manifest.head.labels.1", "102 tokens")  # start and end
    else:
        assert problem["field"].startswith("probes.")  # the recorded logits are of the shorter label


def test_text_to_text_needs_a_decoder(backbone_folder: Path, tmp_path: Path) -> None:
    """On an encoder such a file is refused, with the reason; and what it would need."""
    from adapters_store import read_adapter, write_adapter
    from tests.integration.world import tiny

    bert = tiny()
    good = read_adapter(served(bert, "good", "linear_probe", HeadSpec("single_label", ("no", "yes"))).data)
    head = good.manifest.head.model_copy(update={"kind": "text_to_text", "pooling": "none"})
    data = write_adapter(good.manifest.model_copy(update={"head": head}), {})
    with Live(Settings(backbone=str(backbone_folder), store=tmp_path / "store", device="cpu")) as live:
        problem = live.push("good", data).json()["errors"][0]
        assert problem["field"] == "head.kind"
        assert "decoder" in problem["allowed"]


@pytest.mark.parametrize("name", TASKS)
def test_every_kind_shows_the_form_of_an_input(live: Live, name: str) -> None:
    (version,) = live.http.get(f"/v1/tasks/{name}").json()["versions"]
    field = f"{{{version['fields'][0]}}}"
    chooses = version["kind"] == "multiple_choice"
    assert version["example"] == (
        {"text": field, "choices": ["{choice 0}", "{choice 1}"]} if chooses else field
    )
    assert "error" not in live.predict(name, version["example"])["predictions"][0]


@pytest.mark.parametrize("command", ["service", "trunkline"])
def test_float16_is_refused_for_t5_before_it_listens(tmp_path: Path, command: str) -> None:
    folder = save_model(tmp_path / "tiny-t5", "t5")
    options = ["--backbone", str(folder), "--store", str(tmp_path / "store"), "--dtype", "float16"]
    done = subprocess.run(
        [sys.executable, "-m", command, "serve", "--port", "0", *options],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: backbone ")
    assert "cannot run in float16: T5's activations overflow float16" in line
    assert "use bfloat16 or float32" in line


def test_float16_is_refused_for_t5_with_the_reason(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tiny-t5", "t5")
    settings = Settings(backbone=str(folder), store=tmp_path / "store", device="cpu", dtype="float16")
    told: list[bool] = []

    async def started() -> Service:
        service = Service(settings, None, told.append)
        await service.start()
        found = service.phase, service.reason
        await service.stop()
        assert found[0] == "failed"
        assert "overflow float16" in found[1]
        assert "use bfloat16 or float32" in found[1]
        return service

    asyncio.run(started())
    assert told == [False]
