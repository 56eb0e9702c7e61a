"""Predict calls of every kind, sound and odd: different ways through the service answer them alike."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any

import httpx
from hypothesis import strategies as st

JSON = {"Content-Type": "application/json"}
ASK = {"task": "mood", "inputs": ["w1 w2", "w3"]}


def told(response: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """What a caller sees of an answer."""
    headers = [(name, value) for name, value in response.headers.multi_items() if name != "date"]
    return response.status_code, headers, response.content


BODIES: Sequence[tuple[int, Any]] = [
    (200, ASK),
    (200, ASK | {"raw": True, "top_k": 1}),
    (200, {"tasks": ["mood", "nobody", "tags", "urgency", "probe"], "inputs": ["w1", 3, {"text": "w2"}]}),
    (200, {"tasks": ["alike", "mood"], "inputs": [{"text": "w1", "text_pair": "w2"}, "w3"]}),
    (200, {"task": "topic@production", "inputs": "w1 w2 w3"}),
    (200, {"task": "mood", "inputs": ["w1"] * 70}),
    (200, {"task": "mood", "inputs": "w1 " * 900, "truncate": True}),
    (404, {"task": "modd", "inputs": "w1"}),
    (404, {"task": "mood@9", "inputs": "w1"}),
    (422, {"task": "mood", "inputs": "w1 " * 900}),
    (422, {"task": "mood", "inputs": []}),
    (422, {"task": "mood", "inputs": {"text": "w1", "text_pair": "w2"}}),
    (422, {"task": "mood", "inputs": {"x": 1}}),
    (422, {"task": "mood", "inputs": None}),
    (422, {"task": "mood"}),
    (422, {"tasks": [], "inputs": "w1"}),
    (422, {"task": "mood", "tasks": ["mood"], "inputs": "w1"}),
    (422, {"task": 3, "inputs": "w1", "tok_p": 1, "top_k": 0, "raw": "no"}),
    (422, ASK | {"generate": True}),
    (422, ASK | {"max_new_tokens": 4}),
    (422, []),
    (422, "w1"),
    (422, None),
]


PACKED = gzip.compress(json.dumps(ASK).encode(), mtime=0)
RAW: Sequence[tuple[int, dict[str, Any]]] = [
    (400, {"content": b"", "headers": JSON}),
    (400, {"content": b"{", "headers": JSON}),
    (400, {"content": b"\xff\xfe", "headers": JSON}),
    (400, {"content": json.dumps(ASK).encode("utf-16"), "headers": JSON}),
    (400, {"content": PACKED, "headers": JSON}),
    (200, {"content": b"\xef\xbb\xbf" + json.dumps(ASK).encode(), "headers": JSON}),
    (
        200,
        {"content": PACKED, "headers": JSON | {"Content-Encoding": "gzip"}},
    ),
    (400, {"content": b"no gzip", "headers": JSON | {"Content-Encoding": "gzip"}}),
    (415, {"content": b"{}", "headers": JSON | {"Content-Encoding": "br"}}),
    (415, {"content": json.dumps(ASK).encode()}),
    (415, {"content": json.dumps(ASK).encode(), "headers": {"Content-Type": "text/plain"}}),
    (200, {"content": json.dumps(ASK).encode(), "headers": {"Content-Type": "Application/JSON; charset=x"}}),
    (413, {"content": b" " * 33_554_433, "headers": JSON}),
    (200, {"content": b'{"task": "nobody", "task": "mood", "inputs": ["w1"]}', "headers": JSON}),
    (422, {"content": b'{"task": "mood", "inputs": "\\ud83d"}', "headers": JSON}),
    (200, {"content": b'{"task": "mood", "inputs": ["w1", "\\ud83d"]}', "headers": JSON}),
    (422, {"content": b'{"task": "\\ud83d", "inputs": "w1"}', "headers": JSON}),
    (400, {"content": b"[" * 100_000, "headers": JSON}),
    (400, {"content": b'{"task": "mood", "inputs": ' + b"9" * 5_000 + b"}", "headers": JSON}),
    (422, {"content": b'{"task": "mood", "inputs": NaN}', "headers": JSON}),
    (403, {"json": ASK, "headers": {"Origin": "https://evil.example"}}),
    (403, {"json": ASK, "headers": {"Host": "evil.example.org"}}),
    (200, {"json": ASK, "params": {"q": "x", "task": "other"}}),
]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TASK = st.sampled_from(
    ["mood", "topic", "tags", "urgency", "same", "probe", "alike", "nobody", "mood@1", "mood@", ""]
)
TEXT = st.sampled_from(["w1", "w2 w3", "", "ü", "w9 " * 40])
ITEM = TEXT | st.fixed_dictionaries({"text": TEXT}, optional={"text_pair": TEXT, "choices": VALUES}) | VALUES
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "task": TASK | VALUES,
        "tasks": st.lists(TASK, max_size=3) | VALUES,
        "inputs": ITEM | st.lists(ITEM, max_size=4),
        "top_k": st.integers(-1, 9) | VALUES,
        "raw": st.booleans() | VALUES,
        "generate": st.booleans(),
        "truncate": st.booleans(),
        "max_new_tokens": st.integers(-1, 9),
        "surprise": VALUES,
    },
)
