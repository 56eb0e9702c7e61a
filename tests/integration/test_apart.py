"""Pairs whose texts are encoded apart, over HTTP: beside joint pairs, cut, too long, and one text alone."""

from __future__ import annotations

from typing import Any

from modeling import Backbone
from tests.integration.world import TEXTS, Live, adapter_of, assert_close, logits_alone

PAIRS = [{"text": TEXTS[k], "text_pair": TEXTS[(5 * k + 2) % len(TEXTS)]} for k in range(12)]
TASKS = ["same", "alike", "agree"]


def _ask(live: Live, names: list[str], items: list[Any], **options: Any) -> list[list[Any]]:
    results = live.predict(names, items, **options)["results"]
    return [result["predictions"] for result in results]


def test_joint_pairs_and_pairs_apart_in_one_request(shared: Live, backbone: Backbone) -> None:
    for task, answers in zip(TASKS, _ask(shared, TASKS, PAIRS, raw=True), strict=True):
        adapter = adapter_of(backbone, task)
        for pair, answer in zip(PAIRS, answers, strict=True):
            wanted = logits_alone(backbone, adapter, (pair["text"], pair["text_pair"]))
            assert_close(answer["logits"], wanted)


def test_the_limit_is_of_each_text(shared: Live, backbone: Backbone) -> None:
    """64 tokens: two texts of 40 words fit apart and not as one sequence; 70 words do not fit at all."""
    forty, seventy = " ".join(["w1"] * 40), " ".join(["w2"] * 70)
    joint, apart = _ask(shared, ["same", "alike"], [{"text": forty, "text_pair": forty}])
    assert (joint[0]["error"]["code"], joint[0]["error"]["tokens"]) == ("too_long", 83)
    assert (apart[0]["tokens"], apart[0]["truncated"]) == (42, False)
    pair = {"text": "w3", "text_pair": seventy}
    (refused,) = _ask(shared, ["alike"], [pair])
    assert (refused[0]["error"]["tokens"], refused[0]["error"]["limit"]) == (72, 64)
    (cut,) = _ask(shared, ["alike"], [pair], truncate=True, raw=True)
    assert (cut[0]["tokens"], cut[0]["truncated"]) == (72, True)
    assert_close(cut[0]["logits"], logits_alone(backbone, adapter_of(backbone, "alike"), ("w3", seventy)))


def test_one_text_is_an_error_of_its_item(shared: Live) -> None:
    (answers,) = _ask(shared, ["agree"], [PAIRS[0], "w1", PAIRS[1]])
    assert ["error" in answer for answer in answers] == [False, True, False]
    assert answers[1]["error"]["code"] == "text_pair_required"
    assert "reads two texts (text, text_pair)" in answers[1]["error"]["message"]
