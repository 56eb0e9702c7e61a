"""Embeddings under an adapter, over HTTP: pairs are answered with scores, texts with their embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from modeling import Backbone, HeadSpec
from service.settings import Settings
from tests.integration.forms import Served, item_of, logits_alone, served, watched
from tests.integration.world import TEXTS, Live, assert_close
from trunkline import Client
from trunkline.cli import app

SPECS = {
    "near": ("hadamard", HeadSpec("similarity", (), low=1.0, high=5.0)),
    "like": ("prompt_tuning", HeadSpec("similarity", (), pooling="first")),
    "own": ("full", HeadSpec("similarity", ())),
    "mood": ("lora", HeadSpec("single_label", ("sad", "glad"))),
    "agree": ("bitfit", HeadSpec("single_label", ("no", "yes"), pooling="apart")),
}
SIMILAR = ["near", "like", "own"]
PAIR = {"text": TEXTS[3], "text_pair": TEXTS[4]}


@pytest.fixture(scope="module")
def tasks(backbone: Backbone) -> dict[str, Served]:
    return {
        name: served(backbone, name, method, spec, seed=number)
        for number, (name, (method, spec)) in enumerate(SPECS.items())
    }


@pytest.fixture(scope="module")
def live(
    backbone_folder: Path, tasks: dict[str, Served], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    store = tmp_path_factory.mktemp("similar") / "store"
    with Live(Settings(backbone=str(backbone_folder), store=store, device="cpu", max_scores=400)) as server:
        for task in tasks.values():
            response = server.push(task.name, task.data)
            assert response.status_code == 201, response.text
        yield server


def predictions(live: Live, name: str, items: Any, **options: Any) -> list[Any]:
    found: list[Any] = live.predict(name, items, **options)["predictions"]
    return found


@pytest.mark.parametrize("name", SIMILAR)
def test_pairs_and_texts_in_one_request(
    live: Live, tasks: dict[str, Served], backbone: Backbone, name: str
) -> None:
    """Each as alone; the score is the cosine, in the data's units where there are any."""
    adapter, spec = tasks[name].adapter, tasks[name].spec
    items = [item_of(spec, number) if number % 2 else TEXTS[number] for number in range(8)]
    for item, answer in zip(items, predictions(live, name, items, raw=True), strict=True):
        wanted = logits_alone(backbone, adapter, item)
        if isinstance(item, str):
            assert_close(answer["embedding"], wanted)
            assert np.linalg.norm(answer["embedding"]) == pytest.approx(1, abs=1e-5)
            assert (answer["label"], answer["score"], answer["scores"]) == (None, None, {})
            assert answer["logits"] == []
            continue
        assert_close(answer["logits"], wanted)
        (cosine,) = wanted
        score = np.clip(1 + 4 * cosine, 1, 5) if spec.low is not None else cosine
        assert answer["score"] == pytest.approx(score, abs=1e-4)
        assert answer["scores"] == pytest.approx({"cosine": cosine}, abs=1e-5)
        assert answer["label"] is None
        assert "embedding" not in answer


@pytest.mark.parametrize("name", SIMILAR)
def test_a_pair_is_as_its_texts_embeddings_say(live: Live, name: str) -> None:
    u, v = (np.array(one["embedding"]) for one in predictions(live, name, [PAIR["text"], PAIR["text_pair"]]))
    (answer,) = predictions(live, name, PAIR)
    assert answer["scores"]["cosine"] == pytest.approx(float(u @ v), abs=1e-5)
    (same,) = predictions(live, name, {"text": TEXTS[5], "text_pair": TEXTS[5]})
    assert same["scores"]["cosine"] == pytest.approx(1, abs=1e-6)
    assert same["scores"]["cosine"] <= 1


def test_all_kinds_in_one_request(
    live: Live, tasks: dict[str, Served], backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts for tasks of one text and similarities, pairs for those of two; rows of all share the passes."""
    names = [*SIMILAR, "mood", "agree"]
    with watched(live, monkeypatch) as batches:
        results = live.predict(names, [TEXTS[7], PAIR], raw=True)["results"]
    answers = {result["task"]: result["predictions"] for result in results}
    for name in SIMILAR:
        assert_close(answers[name][0]["embedding"], logits_alone(backbone, tasks[name].adapter, TEXTS[7]))
        assert_close(answers[name][1]["logits"], logits_alone(backbone, tasks[name].adapter, PAIR))
    assert_close(answers["mood"][0]["logits"], logits_alone(backbone, tasks["mood"].adapter, TEXTS[7]))
    assert answers["mood"][1]["error"]["code"] == "text_pair_not_allowed"
    assert answers["agree"][0]["error"]["code"] == "text_pair_required"
    assert_close(answers["agree"][1]["logits"], logits_alone(backbone, tasks["agree"].adapter, PAIR))
    assert max(len(set(batch)) for batch in batches.read) == 4  # the exclusive one is apart


def test_what_stands_for_an_embedding_is_limited_as_scores_are(live: Live) -> None:
    """400 numbers are twelve embeddings of 32, or 400 pairs."""
    assert len(predictions(live, "near", [TEXTS[0]] * 12)) == 12
    assert len(predictions(live, "near", [PAIR] * 300)) == 300
    refused = live.ask("near", [TEXTS[0]] * 13)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")


def test_wrong_items_and_wrong_wishes(live: Live) -> None:
    found = predictions(live, "near", [PAIR, {"text": "w1", "choices": ["w2", "w3"]}, "w1 " * 80])
    assert [one.get("error", {}).get("code") for one in found] == [None, "choices_not_allowed", "too_long"]
    asked = live.ask("near", PAIR, generate=True)
    assert (asked.status_code, asked.json()["code"]) == (422, "generate_not_allowed")


def test_what_the_server_tells_of_the_task(live: Live) -> None:
    (version,) = live.http.get("/v1/tasks/near").json()["versions"]
    assert (version["kind"], version["labels"], version["fields"]) == (
        "similarity",
        [],
        ["text", "text_pair"],
    )
    assert version["example"] == {"text": "{text}", "text_pair": "{text_pair}"}
    assert "similarity" in live.http.get("/v1/info").json()["kinds"]


def test_the_client_has_embeddings_and_scores(live: Live) -> None:
    with Client(live.url) as client:
        text = client.predict("near", TEXTS[1])
        pair = client.predict("near", (TEXTS[1], TEXTS[2]))
    assert text.embedding is not None
    assert (len(text.embedding), text.score) == (32, None)
    assert pair.embedding is None
    assert pair.score is not None


def test_a_restart_answers_the_same(live: Live) -> None:
    before = predictions(live, "near", [TEXTS[2], PAIR])
    with Live(live.service.settings) as again:
        assert predictions(again, "near", [TEXTS[2], PAIR]) == before


def predict(live: Live, *arguments: str) -> str:
    """`trunkline predict`: what it prints."""
    done = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(
        app, ["predict", "--url", live.url, *arguments]
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_line_shows_both(live: Live) -> None:
    assert "embedding of 32 numbers: " in predict(live, "--task", "near", TEXTS[1])
    line = json.loads(predict(live, "--task", "near", "--json", TEXTS[1]))
    assert len(line["embedding"]) == 32


def test_a_file_of_pairs_and_a_file_of_texts(live: Live, tmp_path: Path) -> None:
    """A file with both columns has scores, one with the first or any named one has embeddings."""
    rows = [{"text": TEXTS[k], "text_pair": TEXTS[k + 1], "title": TEXTS[k]} for k in range(3)]
    pairs, texts = tmp_path / "pairs.jsonl", tmp_path / "texts.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts.write_text("".join(json.dumps({"text": row["text"], "id": 1}) + "\n" for row in rows))
    out = tmp_path / "pairs.out.jsonl"
    predict(live, "--task", "near", "--file", str(pairs), "--out", str(out))
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    wanted = predictions(live, "near", [{"text": row["text"], "text_pair": row["text_pair"]} for row in rows])
    assert [row["predicted_score"] for row in scored] == [one["score"] for one in wanted]
    assert "predicted_embedding" not in scored[0]
    embeddings = [one["embedding"] for one in predictions(live, "near", [row["text"] for row in rows])]
    for source, more in ((texts, ()), (pairs, ("--text-fields", "title"))):
        found = tmp_path / f"{source.stem}.out.parquet"
        predict(live, "--task", "near", "--file", str(source), "--out", str(found), *more)
        columns = parquet.read_table(found).to_pydict()
        np.testing.assert_allclose(columns["predicted_embedding"], embeddings, rtol=1e-6)
        assert "predicted_score" not in columns
