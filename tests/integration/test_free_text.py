"""Tasks whose answers are any text, the whole way on a tiny T5: trained, checked, uploaded, and answered.

What the server writes is what `trunkline evaluate` computes offline, whatever other tasks do meanwhile.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save

from modeling import Backbone, HeadSpec, load_backbone
from proof.check import CheckReport, check_file
from service.settings import Settings
from tests.conformance.options import tiny_options
from tests.integration.forms import save_model, served
from tests.integration.world import Live
from tests.tiny import WORDS
from training.file.evaluate import FileEvaluation, evaluate_file
from training.run import train
from training.settings.config import TrainConfig
from trunkline import Client

ANSWERS = ("w1 w2", "w40 w41 w42 w43")
METHOD_OF = {"names": "full", "places": "compacter", "prompted": "prompt_tuning"}
LABELLED = HeadSpec("text_to_text", ("w1", "w2 w3"), pooling="none")


@dataclass(frozen=True)
class Trained:
    """A file that training wrote, and what was computed offline."""

    data: bytes
    evaluation: FileEvaluation


def write_data(folder: Path) -> Path:
    """Each text's answer is the phrase of the half of the vocabulary that its words come from."""
    chooser = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 60), ("validation", 20)):
        rows = []
        for index in range(count):
            half = WORDS[: len(WORDS) // 2] if index % 2 == 0 else WORDS[len(WORDS) // 2 :]
            text = " ".join(chooser.choices(half, k=chooser.randint(2, 6)))
            rows.append({"text": text, "answers": [ANSWERS[index % 2]]})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def trained(folder: Path, name: str, backbone: Backbone) -> Trained:
    data, out = write_data(folder / name), folder / f"{name}.safetensors"
    config = TrainConfig(
        data=str(data),
        task=name,
        out=str(out),
        form="text-to-text",
        kind="free_text",
        method=METHOD_OF[name],
        method_config=tiny_options(METHOD_OF[name]),
        device="cpu",
        epochs=4,
        lr=1e-2,
        batch_size=8,
        max_tokens=48,
    )

    def verify(path: Path, _: str) -> CheckReport:
        return check_file(path.read_bytes(), backbone)

    train(config, backbone=backbone, verify=verify)
    return Trained(out.read_bytes(), evaluate_file(out, data, backbone=backbone))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("free") / "tiny-t5", "t5")


@pytest.fixture(scope="module")
def tasks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    backbone, files = load_backbone(str(folder)), tmp_path_factory.mktemp("files")
    return {name: trained(files, name, backbone) for name in METHOD_OF}


@pytest.fixture(scope="module")
def live(folder: Path, tasks: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    store = tmp_path_factory.mktemp("store") / "store"
    with Live(Settings(backbone=str(folder), store=store, device="cpu")) as server:
        for name, task in tasks.items():
            response = server.push(name, task.data)
            assert response.status_code == 201, response.text
            assert (response.json()["kind"], response.json()["labels"]) == ("text_to_text", [])
        backbone = load_backbone(str(folder))
        assert server.push("rte", served(backbone, "rte", "bitfit", LABELLED).data).status_code == 201
        yield server


def test_served_is_evaluated(live: Live, tasks: dict[str, Trained]) -> None:
    """All tasks at once, beside one with labels: each writes what it writes alone."""

    def ask(name: str, **options: Any) -> Any:
        texts = [str(text) for text in tasks["names"].evaluation.texts]
        return live.predict(name, texts, truncate=True, **options)["predictions"]

    with ThreadPoolExecutor(5) as pool:
        written = {name: pool.submit(ask, name) for name in tasks}
        asked = pool.submit(ask, "names", generate=True)
        beside = pool.submit(ask, "rte", generate=True, max_new_tokens=4)
    for name, task in tasks.items():
        for row, answer in zip(task.evaluation.rows, written[name].result(), strict=True):
            assert answer["text"] == row.generated
            assert (answer["label"], answer["score"], answer["scores"]) == (None, None, {})
    assert asked.result() == written["names"].result()
    assert len(beside.result()) == len(tasks["names"].evaluation.rows)
    told = {answer["text"] for answer in written["names"].result()}
    assert told & set(ANSWERS), "the task whose weights were all trained has learnt neither answer"


def test_several_of_them_in_one_request(live: Live, tasks: dict[str, Trained]) -> None:
    source = str(tasks["names"].evaluation.texts[0])
    results = live.predict(list(tasks), [source])["results"]
    for result in results:
        row = tasks[result["task"]].evaluation.rows[0]
        assert result["predictions"][0]["text"] == row.generated


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": ["names", "rte"]}, "ask rte in another request"),
        ({"task": "names", "raw": True}, "raw: names answers with any text and has no scores"),
        ({"task": "names", "generate": True, "max_new_tokens": 10_000}, "max_new_tokens: got 10000"),
    ],
)
def test_what_cannot_be_asked_says_why(live: Live, fields: dict[str, Any], message: str) -> None:
    response = live.http.post("/v1/predict", json={"inputs": ["w1"], **fields})
    assert response.status_code == 422
    assert message in response.text


def test_the_task_tells_what_it_is(live: Live, tasks: dict[str, Trained]) -> None:
    (version,) = live.http.get("/v1/tasks/names").json()["versions"]
    assert (version["labels"], version["kind"]) == ([], "text_to_text")
    assert version["max_new_tokens"] == 5  # the longer answer, and its end
    with Client(live.url) as client:
        (prediction,) = client.predict("names", [str(tasks["names"].evaluation.texts[0])])
    assert prediction.text == tasks["names"].evaluation.rows[0].generated


def test_a_probe_with_another_answer_is_refused(live: Live, tasks: dict[str, Trained]) -> None:
    """What is replayed is the probability of the probe's own string."""
    data = tasks["places"].data
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    (key,) = [name for name, value in header.items() if '"probes"' in value]
    manifest = json.loads(header[key])
    wrong = manifest["probes"][0]
    wrong["target"] = "w9 w9"
    changed = save(load(data), header | {key: json.dumps(manifest)})
    response = live.push("places", changed)
    assert response.status_code == 422
    assert "1 of" in response.text
    assert "probes.0" in response.text
    del wrong["target"]
    response = live.push("places", save(load(data), header | {key: json.dumps(manifest)}))
    assert "manifest.probes.0.target" in response.text
