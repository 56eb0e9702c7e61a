"""Entities over HTTP, from a file that training wrote: as `evaluate` says, among rows of other tasks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from modeling import Backbone
from proof.check import check_file
from service.settings import Settings
from tests.integration.world import TEXTS, Live, assert_close, file_of
from tests.unit.training.conftest import quick
from tests.unit.training.entities import write_entities
from training.file.evaluate import FileEvaluation, evaluate_file
from training.run import train
from trunkline import Client, Entity, Invalid

MOST_TOKENS = 24


@pytest.fixture(scope="module")
def evaluated(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, FileEvaluation]:
    folder = tmp_path_factory.mktemp("entities")
    data, out = write_entities(folder / "data"), folder / "a.safetensors"
    config = quick(data, out, task="names", epochs=1, max_tokens=MOST_TOKENS)
    train(config, backbone=backbone, verify=lambda path, _: check_file(path.read_bytes(), backbone))
    return out.read_bytes(), evaluate_file(out, data, backbone=backbone)


@pytest.fixture(scope="module")
def live(
    backbone: Backbone,
    backbone_folder: Path,
    evaluated: tuple[bytes, FileEvaluation],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Live]:
    store = tmp_path_factory.mktemp("served") / "store"
    with Live(Settings(backbone=str(backbone_folder), store=store, device="cpu")) as server:
        files = {
            "names": evaluated[0],
            "probe": file_of(backbone, "probe"),
            "mood": file_of(backbone, "mood"),
        }
        for task, data in files.items():
            response = server.push(task, data)
            assert response.status_code == 201, response.text
        yield server


def test_what_is_served_is_what_was_evaluated(live: Live, evaluated: tuple[bytes, FileEvaluation]) -> None:
    """All texts at once, as several requests do, while other tasks ask."""
    found = evaluated[1]
    texts = [str(text) for text in found.texts]
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(live.predict, task, TEXTS[:40]) for task in ("mood", "probe") * 4]
        chunks = [
            (k, pool.submit(live.predict, "names", texts[k : k + 7], raw=True, truncate=True))
            for k in range(0, len(texts), 7)
        ]
        answers = {k + i: one for k, done in chunks for i, one in enumerate(done.result()["predictions"])}
        assert all(len(one.result()["predictions"]) == 40 for one in others)
    assert sum(len(one["entities"]) for one in answers.values()) > 20
    for index, row in enumerate(found.rows):
        answer = answers[index]
        assert_close(np.ravel(answer["logits"]), row.logits)
        assert answer["score"] == pytest.approx(row.score, rel=1e-4)
        assert (answer["label"], answer["scores"], answer["truncated"]) == (row.label, {}, row.truncated)
        wanted = row.entities or []
        for own, other in zip(answer["entities"], wanted, strict=True):
            assert {**own, "score": 0} == {**other, "score": 0}
            assert own["score"] == pytest.approx(other["score"], rel=1e-4)
            assert own["text"] == texts[index][own["start"] : own["end"]]
        assert [list(word) for word in answer["words"]] == sorted(map(list, answer["words"]))
        assert len(answer["words"]) == len(answer["logits"])


def test_several_tasks_read_one_text(live: Live) -> None:
    """`names` beside a task that shares its rows' text, and one without a body."""
    results = live.predict(["names", "mood", "probe"], TEXTS[:20], raw=True)["results"]
    for task, result in zip(("names", "mood", "probe"), results, strict=True):
        alone = live.predict(task, TEXTS[:20], raw=True)["predictions"]
        for one, other in zip(result["predictions"], alone, strict=True):
            assert_close(np.ravel(one["logits"]), np.ravel(other["logits"]))
            assert one["label"] == other["label"]
            assert ("entities" in one) == (task == "names")


def test_a_text_that_is_cut_is_answered_as_far_as_it_is_read(live: Live) -> None:
    long = "w7 w0 w4, " * 20
    refused = live.predict("names", [long, "w1"])["predictions"]
    assert (refused[0]["error"]["code"], "entities" in refused[1]) == ("too_long", True)
    answer = live.predict("names", long, truncate=True, raw=True)["predictions"][0]
    assert answer["truncated"] is True
    assert len(answer["words"]) == MOST_TOKENS - 2
    assert all(one["end"] <= answer["words"][-1][1] for one in answer["entities"])


def test_offsets_count_characters_whatever_they_are(live: Live) -> None:
    plain = live.predict("names", "w7 w0 w4, w8")["predictions"][0]["entities"]
    moved = live.predict("names", "\U0001f600\u00e9  w7 w0 w4, w8")["predictions"][0]
    assert plain
    assert all(
        one["text"] == ("\U0001f600\u00e9  w7 w0 w4, w8")[one["start"] : one["end"]]
        for one in moved["entities"]
    )


@pytest.mark.parametrize("text", ["", "  \t", "\u200b"])
def test_a_text_without_words_has_no_entities(live: Live, text: str) -> None:
    (answer,) = live.predict("names", [text], raw=True)["predictions"]
    assert (answer["label"], answer["score"], answer["entities"]) == ([], 1.0, [])
    assert (answer["logits"], answer["words"]) == ([], [])


def test_what_has_no_meaning_for_entities_is_refused(live: Live) -> None:
    for options, field in (({"top_k": 2}, "top_k"), ({"generate": True}, "generate")):
        response = live.ask("names", ["w1"], **options)
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == field
    both = live.ask(["names", "mood"], ["w1"], top_k=1)
    assert both.json()["errors"][0]["remedy"] == "leave it out, or ask names separately"
    (pair,) = live.predict("names", [{"text": "a", "text_pair": "b"}, "w1"])["predictions"][:1]
    assert pair["error"]["code"] == "text_pair_not_allowed"


def test_the_client_gives_entities(live: Live, evaluated: tuple[bytes, FileEvaluation]) -> None:
    found = evaluated[1]
    place = next(i for i, row in enumerate(found.rows) if row.entities and not row.truncated)
    with Client(live.url) as client:
        one = client.predict("names", str(found.texts[place]), raw=True)
        assert one.entities is not None
        assert one.words is not None
        assert isinstance(one.entities[0], Entity)
        assert [(e.start, e.end, e.label) for e in one.entities] == [
            (e["start"], e["end"], e["label"]) for e in found.rows[place].entities or ()
        ]
        assert client.predict("mood", "w1").entities is None
        version = client.version("names", 1)
        assert (version.kind, version.labels[0]) == ("token_labels", "O")
        with pytest.raises(Invalid, match="answers with entities"):
            client.predict("names", "w1", top_k=1)
