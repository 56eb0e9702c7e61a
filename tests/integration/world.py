"""A tiny backbone on disk, real adapter files for it, and live servers to ask; for integration tests only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn
from transformers import PreTrainedTokenizerFast

from adapters_store import (
    BackboneRef,
    HeadRef,
    InputRef,
    Manifest,
    MethodRef,
    Probe,
    Provenance,
    write_adapter,
)
from modeling import METHODS, Adapter, Backbone, HeadSpec, TextItem, readout_of
from service.app import build_app
from service.settings import Settings
from service.state import Service
from tests.conformance import checks
from tests.tiny import CONFIGS, random_texts, tiny_model, tokenizer

SPECS: dict[str, HeadSpec] = {
    "mood": HeadSpec("single_label", ("sad", "glad")),
    "topic": HeadSpec("single_label", tuple(f"topic {i}" for i in range(7)), pooling="first"),
    "tags": HeadSpec("multi_label", ("billing", "bug", "praise")),
    "urgency": HeadSpec("regression", ("urgency",), low=-1.0, high=1.0),
    "same": HeadSpec("single_label", ("different", "same")),
    "probe": HeadSpec("single_label", ("no", "yes", "maybe")),
    "alike": HeadSpec("regression", ("likeness",), pooling="apart"),
    "agree": HeadSpec("single_label", ("no", "yes", "perhaps"), pooling="apart"),
}
METHOD_OF = {
    "mood": "hadamard",
    "topic": "bitfit",
    "tags": "ia3",
    "urgency": "ln_tuning",
    "same": "hadamard",
    "probe": "linear_probe",
    "alike": "hadamard",
    "agree": "linear_probe",
}
PAIR_TASKS = frozenset({"same", "alike", "agree"})
TEXTS = [text for text in random_texts(120, 5) if isinstance(text, str)]


def assert_close(got: Any, wanted: Any) -> None:
    """Equal within the published tolerance of float32."""
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def save_backbone(folder: Path, seed: int = 0) -> Path:
    """A BERT of two layers, 32 wide, as a Hugging Face directory."""
    tiny_model("bert", seed).save_pretrained(folder)  # type: ignore[operator]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer("bert"),
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    ).save_pretrained(folder)
    return folder


def tiny(seed: int = 0) -> Backbone:
    """The backbone that `save_backbone` writes, in this process."""
    return Backbone("tiny", tiny_model("bert", seed), CONFIGS["bert"], tokenizer("bert"), torch.float32)


def adapter_of(backbone: Backbone, task: str, seed: int = 0) -> Adapter:
    """An adapter whose every parameter was moved from its start."""
    adapter = Adapter.create(backbone, METHODS[METHOD_OF[task]].from_config({}), SPECS[task], seed=seed)
    generator = torch.Generator().manual_seed(seed + 17)
    with torch.no_grad():
        assert adapter.head is not None
        for parameter in [*adapter.body_parameters(), *adapter.head.parameters()]:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapter


def logits_alone(backbone: Backbone, adapter: Adapter, item: TextItem, max_tokens: int = 64) -> list[float]:
    """The reference: one row, training form."""
    (encoded,) = readout_of(adapter.spec).encode(backbone.text, [item], max_tokens)
    logits: list[float] = checks.logits_alone(backbone, adapter, encoded).tolist()
    return logits


def manifest_of(
    backbone: Backbone, task: str, adapter: Adapter, *, max_tokens: int = 64, pair: bool | None = None
) -> Manifest:
    """An honest manifest with honest probes."""
    is_pair = task in PAIR_TASKS if pair is None else pair
    texts = TEXTS[:8]
    items: list[TextItem] = [(text, TEXTS[9]) for text in texts] if is_pair else [*texts]
    spec = adapter.spec
    probes = [
        Probe(
            text=text,
            text_pair=TEXTS[9] if is_pair else None,
            logits=logits_alone(backbone, adapter, item, max_tokens),
        )
        for text, item in zip(texts, items, strict=True)
    ]
    return Manifest(
        task=task,
        created="2026-01-02T03:04:05Z",
        backbone=BackboneRef(
            family=backbone.family.name,
            name=backbone.name,
            config_digest=backbone.config_digest,
            weights_digest=backbone.weights_digest,
        ),
        method=MethodRef(name=METHOD_OF[task], config=adapter.method.config()),
        head=HeadRef(
            kind=spec.kind,
            labels=list(spec.labels),
            pooling=spec.pooling,
            threshold=spec.threshold,
            low=spec.low,
            high=spec.high,
        ),
        input=InputRef(fields=["text", "text_pair"] if is_pair else ["text"], max_tokens=max_tokens),
        provenance=Provenance(code_version="test", config={}, seed=0),
        probes=probes,
    )


def file_of(backbone: Backbone, task: str, seed: int = 0, *, max_tokens: int = 64) -> bytes:
    """A sound adapter file."""
    adapter = adapter_of(backbone, task, seed)
    return write_adapter(manifest_of(backbone, task, adapter, max_tokens=max_tokens), adapter.to_tensors())


class Live:
    """The application behind a real socket, in a thread of this process."""

    def __init__(self, settings: Settings) -> None:
        app = build_app(settings)
        self.service: Service = app.state.service
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, loop="uvloop", http="httptools", log_config=None, access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self.token = settings.token.get_secret_value() if settings.token else None

    def __enter__(self) -> Live:
        self._thread.start()
        wait_for(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=60, limits=limits)
        wait_for(lambda: self.service.phase != "starting")
        assert self.service.phase == "ready", self.service.reason
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def push(self, task: str, data: bytes, **params: str) -> httpx.Response:
        return push(self.http, task, data, **params)

    def predict(self, task: str | Sequence[str], inputs: Any, **options: Any) -> Any:
        """The JSON of a successful prediction."""
        response = self.ask(task, inputs, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def ask(self, task: str | Sequence[str], inputs: Any, **options: Any) -> httpx.Response:
        key = "task" if isinstance(task, str) else "tasks"
        return self.http.post("/v1/predict", json={key: task, "inputs": inputs, **options})


def push(http: httpx.Client, task: str, data: bytes, **params: str) -> httpx.Response:
    """Upload a file."""
    headers = {"Content-Type": "application/octet-stream"}
    return http.post(f"/v1/tasks/{task}/versions", content=data, params=params, headers=headers)


def wait_for(condition: Any, seconds: float = 90.0) -> None:
    """Poll until true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


class Process:
    """`python -m service serve` as a process of its own."""

    def __init__(
        self,
        backbone: Path,
        store: Path,
        environment: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self.log = store.parent / f"{store.name}.log"
        command = [*before, sys.executable, "-m", "service", "serve", "--port", "0"]
        command += ["--backbone", str(backbone), "--store", str(store)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stderr=log, stdout=log, env={**os.environ, **(environment or {})}
            )
        self.http = httpx.Client(timeout=30)

    def ready(self) -> Process:
        """Wait for the port in the log, then for /ready."""
        wait_for(lambda: self._url() is not None or self.process.poll() is not None)
        url = self._url()
        assert url is not None, self.log.read_text()
        self.http = httpx.Client(base_url=url, timeout=30)
        wait_for(lambda: self.http.get("/ready").status_code == 200 or self.process.poll() is not None)
        return self

    def _url(self) -> str | None:
        for line in self.log.read_text().splitlines():
            _, found, rest = line.partition("Uvicorn running on ")
            if found:
                return rest.split()[0]
        return None

    def stop(self, number: int = signal.SIGTERM, timeout: float = 60) -> int:
        """Send a signal and wait for the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(timeout)
        self.http.close()
        return status


@contextlib.contextmanager
def running(
    backbone: Path,
    store: Path,
    environment: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator[Process]:
    """A process that is gone at the end whatever happens; `before`: a program that becomes it."""
    process = Process(backbone, store, environment, before)
    try:
        yield process.ready()
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait(10)
        process.http.close()
