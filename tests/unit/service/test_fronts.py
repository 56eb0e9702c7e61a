"""Frames, the texts of a call as ids, which way a request goes, and the device process's end of a link."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling.text import TextEncoder
from service.api import direct
from service.errors import Draining, Overloaded
from service.fronts import calls as calls_module
from service.fronts import frames
from service.fronts.calls import Calls
from service.fronts.front import PATH, Front
from service.fronts.link import Link
from service.fronts.setup import MOST_BODY_BYTES, Setup
from service.fronts.texts import MOST_CHARS, MOST_TEXTS, Texts, texts_of
from service.metrics import Metrics
from service.settings import Settings
from service.state import Service
from tests.tiny import random_texts, tokenizer

IDS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    st.lists(st.integers(0, 2**31 - 1), max_size=9),
    max_size=5,
)
CALLS = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.floats(allow_nan=False),
        st.text("abc.-:_9", min_size=1, max_size=128),
        st.binary(max_size=40),
        IDS,
    ),
    max_size=5,
)


@given(sent=CALLS, cuts=st.lists(st.integers(1, 60), max_size=40))
def test_calls_arrive_as_they_were_sent_in_whatever_pieces(sent: Any, cuts: list[int]) -> None:
    data = b"".join(frames.ask(number, at, name.encode(), body, ids) for number, at, name, body, ids in sent)
    reader, found = frames.Frames(), []
    for size in [*cuts, len(data) or 1]:
        piece, data = data[:size], data[size:]
        found += list(reader.feed(piece)) if piece else []
    assert [kind for kind, _, _ in found] == [frames.ASK] * len(sent)
    assert [(number, *frames.read_ask(payload)) for _, number, payload in found] == sent


HEADER = st.tuples(st.binary(min_size=1, max_size=9), st.binary(max_size=9)).filter(
    lambda pair: b":" not in pair[0] and b"\n" not in b"".join(pair)
)


@given(st.integers(0, 2**32 - 1), st.integers(100, 599), st.lists(HEADER, max_size=4), st.binary(max_size=40))
def test_answers_arrive_as_they_were_sent(number: int, status: int, headers: Any, body: bytes) -> None:
    ((kind, got, payload),) = frames.Frames().feed(frames.answer(number, status, headers, body))
    assert (kind, got) == (frames.ANSWER, number)
    assert frames.read_answer(payload) == (status, headers, body)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (b'{"inputs": "a"}', ["a"]),
        (b'{"inputs": ["b", "a", "b", 3, null, ["c"]]}', ["b", "a"]),
        (b'{"inputs": {"text": "a", "text_pair": "b", "other": "c"}}', ["a", "b"]),
        (b'{"inputs": [{"text": "a", "choices": ["x", 2, "y"]}, {"choices": "no"}]}', ["a", "x", "y"]),
        (b'{"inputs": "\\ud83d"}', []),
        (b'{"inputs": "a"', []),
        (b"[1]", []),
        (b"", []),
        (b"[" * 9_999, []),
        (b'{"inputs": [%s]}' % b",".join(b'"%d"' % i for i in range(MOST_TEXTS + 1)), []),
        (b'{"inputs": "%s"}' % (b"a" * (MOST_CHARS + 1)), []),
    ],
    ids=range(11),
)
def test_the_texts_of_a_call_are_found_and_nothing_is_judged(body: bytes, texts: list[str]) -> None:
    assert texts_of(body) == texts


@pytest.mark.parametrize("family", ["bert", "roberta", "t5"])
def test_ids_are_those_of_the_device_process(family: str) -> None:
    texts = [text for text in random_texts(60, 9) if isinstance(text, str)]
    own, encoder = tokenizer(family), TextEncoder(tokenizer(family), 64)
    own.enable_truncation(3)
    own.enable_padding(length=9)
    front = Texts(own.to_str(), 1)
    for some in ([], texts[:1], [" ".join(texts)], texts):
        body = frames_body(some)
        ids = asyncio.run(front.ids_of(body))
        assert ids == {text: found.first for text, found in zip(some, encoder.tokenize(some), strict=True)}


def frames_body(texts: list[str]) -> bytes:
    import json

    return json.dumps({"task": "mood", "inputs": texts}).encode()


PLAIN = {b"host": b"localhost", b"content-type": b"application/json; charset=utf-8", b"content-length": b"9"}
ODD: list[dict[bytes, bytes]] = [
    {b"origin": b"http://localhost"},
    {b"content-encoding": b"gzip"},
    {b"transfer-encoding": b"chunked"},
    {b"expect": b"100-continue"},
    {b"content-type": b"text/plain"},
    {b"content-length": b"-1"},
    {b"content-length": str(MOST_BODY_BYTES + 1).encode()},
    {b"host": b"evil.example.org"},
]


def test_which_calls_go_as_frames() -> None:
    setup = Setup.of(Settings(root_path="/text"), None, "/nowhere")
    front = Front(cast(Link, None), setup)

    def is_plain(path: str = PATH, method: str = "POST") -> bool:
        return front._is_plain({"method": method, "path": path, "headers": list(PLAIN.items())}, PLAIN)

    assert direct.ROUTE.path == PATH
    assert is_plain()
    assert is_plain("/text/v1/predict")
    assert not any(map(is_plain, ("/v1/tasks", "/text/text/v1/predict", "/v1/predict/")))
    assert not is_plain(method="GET")
    for odd in ODD:
        headers = PLAIN | odd
        assert not front._is_plain(
            {"method": "POST", "path": PATH, "headers": list(headers.items())}, headers
        )
    twice = [*PLAIN.items(), (b"content-length", b"9")]
    assert not front._is_plain({"method": "POST", "path": PATH, "headers": twice}, dict(twice))
    secret = Front(cast(Link, None), setup.model_copy(update={"token": "a-secret"}))
    scope = {"method": "POST", "path": PATH, "headers": list(PLAIN.items())}
    assert not secret._is_plain(scope, PLAIN)
    allowed = PLAIN | {b"authorization": b"Bearer a-secret"}
    assert secret._is_plain({**scope, "headers": list(allowed.items())}, allowed)


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Overloaded("full", 7), 429, b"7"),
        (Draining("the service is stopping"), 503, b"1"),
        (KeyError(), 500, None),
    ],
    ids=["full", "draining", "bug"],
)
def test_what_the_device_process_refuses_comes_with_its_headers(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, retry: bytes | None
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(calls_module, "begin", refuse)
    written: list[bytes] = []

    async def ask() -> None:
        service = SimpleNamespace(num_in_flight=0, metrics=Metrics(), parts=None)
        link = Calls(cast(Service, service), lambda _: None)
        link.connection_made(cast(asyncio.Transport, SimpleNamespace(write=written.append)))
        link.data_received(frames.ask(3, 0.0, b"own-id", b"{}", {}))
        assert service.num_in_flight == 0
        assert b'requests_total{route="/v1/predict",status="%d"} 1.0' % status in service.metrics.render()

    asyncio.run(ask())
    ((_, number, payload),) = frames.Frames().feed(b"".join(written))
    answered = frames.read_answer(payload)
    assert (number, answered.status) == (3, status)
    assert dict(answered.headers).get(b"retry-after") == retry
    assert b'"request_id":"own-id"' in answered.body


def test_a_front_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "modeling", "numpy", "pyarrow", "fastapi")
    code = f"import sys, service.fronts.__main__; print([one for one in {heavy!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
