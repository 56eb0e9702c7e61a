"""Predictions over HTTP: every answer is the one its task would give alone; bad items harm nobody else."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from modeling import Backbone, TextItem, readout_of
from tests.integration.world import PAIR_TASKS, SPECS, TEXTS, Live, adapter_of, assert_close, logits_alone
from tests.tiny import answer


def as_item(task: str, index: int) -> tuple[Any, TextItem]:
    """An input of a task as JSON and as modeling takes it."""
    text, second = TEXTS[index % len(TEXTS)], TEXTS[(7 * index + 3) % len(TEXTS)]
    if task in PAIR_TASKS:
        return {"text": text, "text_pair": second}, (text, second)
    return (text if index % 2 else {"text": text}), text


@pytest.mark.parametrize("task", SPECS)
def test_answers_are_those_of_the_adapter_alone(shared: Live, backbone: Backbone, task: str) -> None:
    sent, items = zip(*(as_item(task, i) for i in range(20)), strict=True)
    got = shared.predict(task, list(sent), raw=True)
    assert (got["task"], got["version"]) == (task, 1)
    adapter = adapter_of(backbone, task)
    for item, prediction in zip(items, got["predictions"], strict=True):
        logits = logits_alone(backbone, adapter, item)
        assert_close(prediction["logits"], logits)
        wanted = answer(SPECS[task], np.array(logits))
        assert prediction["label"] == wanted.label
        assert prediction["score"] == pytest.approx(wanted.score, rel=1e-4, abs=1e-5)
        assert list(prediction["scores"]) == list(wanted.scores)
        encoded = readout_of(SPECS[task]).encode(backbone.text, [item], None)[0]
        assert prediction["tokens"] == max(map(len, encoded.parts))
        assert prediction["truncated"] is False


def test_several_tasks_at_once_equal_each_alone(shared: Live) -> None:
    singles = [task for task in SPECS if task not in PAIR_TASKS]
    together = shared.predict(singles, TEXTS[:30], raw=True, top_k=2)["results"]
    assert [result["task"] for result in together] == singles
    for task, result in zip(singles, together, strict=True):
        alone = shared.predict(task, TEXTS[:30], raw=True, top_k=2)
        assert (result["version"], result["digest"]) == (alone["version"], alone["digest"])
        for one, other in zip(result["predictions"], alone["predictions"], strict=True):
            assert_close(one["logits"], other["logits"])
            assert one["label"] == other["label"]
            assert len(one["scores"]) <= 2


def test_a_single_input_and_a_list_of_one_are_answered_alike(shared: Live) -> None:
    one, listed = shared.predict("mood", TEXTS[3]), shared.predict("mood", [TEXTS[3]])
    assert one == listed
    assert shared.predict("mood", {"text": TEXTS[3]}) == one


def test_the_answer_names_what_answered(shared: Live) -> None:
    response = shared.ask("mood@1", TEXTS[0])
    body = response.json()
    assert (body["task"], body["version"]) == ("mood", 1)
    assert body["digest"].startswith("sha256:")
    assert response.headers["x-adapter"] == "mood"
    assert response.headers["x-adapter-version"] == "1"


def test_an_empty_text_and_unknown_words_are_valid(shared: Live) -> None:
    found = shared.predict("mood", ["", "no such words here"])["predictions"]
    assert [p["tokens"] for p in found] == [2, 6]
    assert shared.predict("same", {"text": "", "text_pair": ""})["predictions"][0]["tokens"] == 3


def test_ten_thousand_texts_with_one_bad_item_in_the_middle(shared: Live) -> None:
    texts = [TEXTS[i % len(TEXTS)] for i in range(10_000)]
    items: list[Any] = list(texts)
    items[5_000] = {"text": 3}
    got = shared.predict("mood", items)["predictions"]
    assert len(got) == 10_000
    bad = got.pop(5_000)
    assert bad["error"]["code"] == "invalid_item"
    assert bad["error"]["index"] == 5_000
    assert "inputs[5000]" in bad["error"]["message"]
    assert not any("error" in prediction for prediction in got)
    known = dict(zip(TEXTS, shared.predict("mood", TEXTS)["predictions"], strict=True))
    del texts[5_000]
    for text, prediction in zip(texts, got, strict=True):
        assert prediction["label"] == known[text]["label"]
        assert prediction["score"] == pytest.approx(known[text]["score"], rel=1e-4)


def test_more_than_the_limit_is_refused_as_a_whole(shared: Live) -> None:
    response = shared.ask("mood", ["a"] * 10_001)
    assert response.status_code == 422
    assert response.json()["errors"][0]["allowed"] == "1 to 10000"


@pytest.mark.parametrize(
    ("task", "item", "code"),
    [
        ("mood", 3, "invalid_item"),
        ("mood", None, "invalid_item"),
        ("mood", {"text": "a", "text_pair": "b"}, "text_pair_not_allowed"),
        ("mood", "w1 " * 100, "too_long"),
        ("same", "a", "text_pair_required"),
        ("same", {"text": "a", "text_pair": None}, "text_pair_required"),
    ],
)
def test_a_failing_item_fails_alone_in_a_list_and_the_request_when_it_is_the_only_one(
    shared: Live, task: str, item: Any, code: str
) -> None:
    good = as_item(task, 1)[0]
    found = shared.predict(task, [good, item, good])["predictions"]
    assert found[1]["error"]["code"] == code
    assert found[1]["error"]["index"] == 1
    assert "label" in found[0]
    assert "label" in found[2]
    for alone in (item, [item]):
        response = shared.ask(task, alone)
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert body["code"] == code
        assert body["errors"][0]["field"] == "inputs.0"
        assert body["request_id"] == response.headers["x-request-id"]


def test_an_over_long_text_names_length_limit_and_remedy(shared: Live) -> None:
    body = shared.ask("mood", "w1 " * 100).json()
    assert "102 tokens" in body["detail"]
    assert "allowed: 64" in body["detail"]
    assert "truncate" in body["detail"]


def test_truncate_answers_and_says_so(shared: Live) -> None:
    words = [f"w{i % 80}" for i in range(100)]
    found = shared.predict("mood", [" ".join(words), "w1"], truncate=True, raw=True)["predictions"]
    assert (found[0]["tokens"], found[0]["truncated"]) == (102, True)
    assert found[1]["truncated"] is False
    cut = shared.predict("mood", " ".join(words[:62]), raw=True)["predictions"][0]
    assert_close(found[0]["logits"], cut["logits"])


@pytest.mark.parametrize(
    "name", ["nobody", "mood@2", "mood@canary", "mood@", "../mood", "/etc/passwd", "MOOD", "", "mood@1@1"]
)
def test_an_unknown_task_is_404_and_never_the_base(shared: Live, name: str) -> None:
    response = shared.ask(name, "w1")
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_task"
    assert shared.ask([name, name], "w1").status_code == 404


def test_an_unknown_task_among_several_carries_its_own_error(shared: Live) -> None:
    results = shared.predict(["mood", "nobody", "topic"], ["w1"])["results"]
    assert results[1]["task"] == "nobody"
    assert results[1]["error"]["code"] == "unknown_task"
    assert [len(r["predictions"]) for r in (results[0], results[2])] == [1, 1]


def test_the_same_task_twice_is_answered_twice(shared: Live) -> None:
    first, second = shared.predict(["mood", "mood@1"], TEXTS[:3])["results"]
    assert first == second


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"task": "mood"}', "application/json", 422),
        (b'{"task": "mood", "inputs": "a"}', "text/plain", 415),
        (b'{"task": "mood", "inputs": "a"}', "", 415),
        (b"x" * (33 * 2**20), "application/json", 413),
    ],
)
def test_bodies_that_cannot_be_read(shared: Live, content: bytes, kind: str, status: int) -> None:
    response = shared.http.post("/v1/predict", content=content, headers={"Content-Type": kind})
    assert response.status_code == status
    assert response.json()["code"]


def test_a_chunked_body_is_limited_too(shared: Live) -> None:
    def chunks() -> Any:
        for _ in range(40):
            yield b"x" * 2**20

    headers = {"Content-Type": "application/json"}
    assert shared.http.post("/v1/predict", content=chunks(), headers=headers).status_code == 413


def test_request_ids_are_echoed_when_sane_and_made_otherwise(shared: Live) -> None:
    given = {"X-Request-ID": "abc-123"}
    response = shared.http.get("/v1/tasks/nobody", headers=given)
    assert response.headers["x-request-id"] == "abc-123"
    assert response.json()["request_id"] == "abc-123"
    made = shared.http.get("/live", headers={b"X-Request-ID": b"a b\xc3\xa9" * 100}).headers["x-request-id"]
    assert len(made) == 16


def test_numbers_are_counted(shared: Live) -> None:
    def value(line: str) -> float:
        text = shared.http.get("/metrics").text
        return sum(float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line))

    line = 'trunkline_predictions_total{task="topic"}'
    before, errors = value(line), value('trunkline_item_errors_total{code="invalid_item"}')
    shared.predict("topic", [random.Random(3).choice(TEXTS), 5, "w1"])
    assert value(line) == before + 2
    assert value('trunkline_item_errors_total{code="invalid_item"}') == errors + 1
    assert value("trunkline_resident_adapters") == len(SPECS)
    assert value("trunkline_waiting_rows") == 0
    assert value("trunkline_open_requests") == 0


@pytest.mark.parametrize("task", SPECS)
def test_the_example_of_a_task_is_a_form_without_data(shared: Live, task: str) -> None:
    """Listing, task and version all show it; it can be sent as it is."""
    one = shared.http.get(f"/v1/tasks/{task}/versions/1").json()
    (listed,) = shared.http.get(f"/v1/tasks/{task}").json()["versions"]
    among_all = {found["task"]: found for found in shared.http.get("/v1/tasks").json()["tasks"]}
    assert one == listed == among_all[task]["versions"][0]
    fields = [f"{{{name}}}" for name in one["fields"]]
    pair = dict(zip(("text", "text_pair"), fields, strict=False))
    assert one["example"] == (pair if task in PAIR_TASKS else fields[0])
    assert "label" in shared.predict(task, one["example"])["predictions"][0]


@pytest.mark.parametrize(
    ("method", "path", "sent", "wanted"),
    [
        ("GET", "/v1/tasks/mood/versions/first", None, ("path.version", "'first'", "a whole number")),
        ("GET", "/v1/tasks/mood/versions/0", None, ("path.version", "'0'", "at least 1")),
        ("PUT", "/v1/tasks/mood/aliases/a", {"version": "1"}, ("version", "a string of length 1", "a whole")),
        ("PUT", "/v1/tasks/mood/aliases/a", {"version": 1, "x": {}}, ("x", "an object", "no field")),
        ("PUT", "/v1/tasks/mood/aliases/a", [1], ("body", "a list of length 1", "an object")),
        ("PUT", "/v1/tasks/mood/aliases/a", None, ("body", "nothing", "a value")),
        (
            "POST",
            "/v1/predict",
            {"task": "mood", "inputs": "a", "top_k": {}},
            ("top_k", "an object", "a whole"),
        ),
    ],
)
def test_what_is_refused_is_told_in_the_words_of_the_interface(
    shared: Live, method: str, path: str, sent: object, wanted: tuple[str, str, str]
) -> None:
    response = shared.http.request(method, path, json=sent)
    body = response.json()
    assert (response.status_code, body["code"]) == (422, "invalid_input"), body
    (found,) = body["errors"]
    assert (found["field"], found["got"]) == wanted[:2]
    assert found["allowed"].startswith(wanted[2])
    assert found["remedy"]
    assert f"{found['field']}: got {found['got']}, allowed: {found['allowed']}" in body["detail"]


def test_info_and_limits(shared: Live, backbone: Backbone) -> None:
    info = shared.http.get("/v1/info").json()
    assert info["backbone"]["weights_digest"] == backbone.weights_digest
    assert info["backbone"]["max_tokens"] == 64
    assert (info["device"], info["dtype"]) == ("cpu", "float32")
    assert {"hadamard", "bitfit", "ia3", "ln_tuning", "linear_probe"} <= set(info["methods"])
    assert info["adapters"]["resident"] == len(SPECS)
    limits = shared.http.get("/v1/limits").json()
    assert limits["max_items"] == 10_000
    assert limits["tolerance"]["probes"] == {"atol": 1e-4, "rtol": 1e-4}
