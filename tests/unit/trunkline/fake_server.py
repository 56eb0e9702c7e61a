"""A server in a function: gives the answers it was told to give, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

Answer = Callable[[httpx.Request], httpx.Response]


@dataclass
class FakeServer:
    """Replies with the queued responses in order, the last one for ever."""

    replies: list[httpx.Response | Exception]
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)

    @property
    def sent(self) -> Any:
        """The JSON of the last request."""
        return json.loads(self.requests[-1].content)


@dataclass
class RowServer(FakeServer):
    """Knows tasks, and answers each text by what stands in it: "spam" if that does, else "ham".

    `refuses` may answer a request instead, by its body; it is asked with a lock held.
    """

    replies: list[httpx.Response | Exception] = field(default_factory=list)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuses: Callable[[dict[str, Any]], httpx.Response | Exception | None] = lambda _: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            name = request.url.path.rpartition("/")[2]
            return ok(self.tasks[name]) if name in self.tasks else problem(404, detail=f"no task {name!r}")
        body = json.loads(request.content)
        with self.lock:
            self.requests.append(request)
            refused = self.refuses(body)
        if isinstance(refused, Exception):
            raise refused
        return refused or self._answer(body)

    @property
    def asked(self) -> list[Any]:
        """All inputs, of all requests in the order in which they came."""
        return [item for request in self.requests for item in json.loads(request.content)["inputs"]]

    @staticmethod
    def _answer(body: dict[str, Any]) -> httpx.Response:
        results = []
        for reference in body.get("tasks", [body.get("task")]):
            name, _, number = reference.partition("@")
            answers = [_answer_of(item) for item in body["inputs"]]
            results.append(result(*answers, task=name, version=int(number)))
        return ok({"results": results} if "tasks" in body else results[0])


def _answer_of(item: Any) -> dict[str, Any]:
    text = item if isinstance(item, str) else " ".join(str(part) for part in item.values())
    if "too long" in text:
        return {"error": {"code": "too_long", "message": "inputs[0] has 900 tokens, at most 512", "index": 0}}
    label = "spam" if "spam" in text else "ham"
    return {**prediction(label, 0.75), "scores": {label: 0.75, "other": 0.25}}


def task_of(name: str = "mail", *, number: int = 3, digest: str = "a", **version: Any) -> dict[str, Any]:
    """A task as the server tells it, with one version."""
    told = {"kind": "single_label", "labels": ["ham", "spam"], "fields": ["text"], **version}
    known = {"version": number, "digest": digest, "size_bytes": 1, "created": "", "state": "resident"}
    aliases = {"production": number, "staging": number}
    return {"task": name, "revision": 1, "aliases": aliases, "versions": [{**known, **told}]}


def ok(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers)


def problem(
    status: int, code: str = "", headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    body = {"type": "about:blank", "title": "Title", "status": status, "code": code, **more}
    return httpx.Response(
        status, json=body, headers={"content-type": "application/problem+json", **(headers or {})}
    )


def prediction(label: Any = "ham", score: float = 0.9, **more: Any) -> dict[str, Any]:
    scores = {label if isinstance(label, str) else "x": score}
    return {"label": label, "score": score, "scores": scores, "tokens": 4, "truncated": False, **more}


def generated(text: str, label: str | None = None) -> dict[str, Any]:
    """The answer of a task that wrote it."""
    return {"label": label, "score": None, "scores": {}, "text": text, "tokens": 4, "truncated": False}


def result(*predictions: dict[str, Any], task: str = "spam", version: int = 3) -> dict[str, Any]:
    return {"task": task, "version": version, "digest": "sha256:00", "predictions": list(predictions)}


EXAMPLE = {"text": 'a "free" prize', "text_pair": "gewonnen für dich"}
TASK = {
    "task": "spam",
    "revision": 7,
    "aliases": {"production": 2, "previous": 1},
    "production": 2,
    "versions": [
        {
            "version": number,
            "digest": f"sha256:{number:064x}",
            "size_bytes": 41_234,
            "created": "2026-01-02T03:04:05Z",
            "state": "resident" if number == 2 else "failed",
            "method": "hadamard",
            "kind": "single_label",
            "labels": ["ham", "spam"],
            **({"reason": "probe 3 differs"} if number == 1 else {"example": EXAMPLE}),
        }
        for number in (1, 2)
    ],
}
PUSHED = {
    "task": "spam",
    "version": 3,
    "digest": "sha256:00",
    "size_bytes": 41_234,
    "method": "hadamard",
    "labels": ["ham", "spam"],
    "aliases": {"production": 3, "previous": 2},
    "probes": {"count": 16, "max_difference": 3.1e-7},
}


def adapter_bytes(task: str = "spam") -> bytes:
    """The head of an adapter file, as far as a client reads it."""
    manifest = json.dumps({"schema_version": 1, "task": task})
    header = json.dumps({"__metadata__": {"trunkline": manifest}}).encode()
    return len(header).to_bytes(8, "little") + header
