"""Many sound adapter files of one backbone, with honest probes, made quickly: for benchmarks of loading.

The bodies are a few, and so are the pooled states of the probes; every task has a head of its own, so all
files differ and the logits of their probes are those that a trainer would have seen.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from adapters_store import (
    AdapterStore,
    BackboneRef,
    InputRef,
    Manifest,
    MethodRef,
    Probe,
    Provenance,
    write_adapter,
)
from modeling import METHODS, READOUTS, Adapter, Backbone, HeadSpec
from proof.candidate import head_of

NUM_BODIES = 4
NUM_PROBES = 32
SPEC = HeadSpec("single_label", ("no", "yes"))
_WORDS = (__doc__ or "").split()


def probe_texts(count: int = NUM_PROBES) -> list[str]:
    """As long as short questions are: 5 to 40 words."""
    return [" ".join(_WORDS[(7 * i + j) % len(_WORDS)] for j in range(5 + 11 * i % 36)) for i in range(count)]


class Files:
    """Files by number, of one method."""

    def __init__(self, backbone: Backbone, method: str = "hadamard", num_probes: int = NUM_PROBES) -> None:
        self._backbone, self._texts = backbone, probe_texts(num_probes)
        self._bodies = [_moved(backbone, method, seed) for seed in range(NUM_BODIES)]
        self._states = [self._pooled(body) for body in self._bodies]

    def data(self, number: int, task: str) -> bytes:
        """The bytes of file `number`."""
        body, (weight, bias) = self._bodies[number % NUM_BODIES], self._head(number)
        tensors = body.to_tensors() | {"head/weight": weight, "head/bias": bias}
        return write_adapter(self._manifest(task, body, self._logits(number)), tensors)

    def probe(self, number: int) -> tuple[str, list[float]]:
        """A text, and the logits of file `number` for it."""
        logits: list[float] = self._logits(number)[0].tolist()
        return self._texts[0], logits

    def _head(self, number: int) -> tuple[Tensor, Tensor]:
        """Weight [L, H] and bias [L]."""
        generator = torch.Generator().manual_seed(number)
        width = self._states[0].shape[1]
        weight = 0.3 * torch.randn(len(SPEC.labels), width, generator=generator)
        return weight, torch.randn(len(SPEC.labels), generator=generator)

    def _logits(self, number: int) -> Tensor:
        """[P, L]."""
        weight, bias = self._head(number)
        return self._states[number % NUM_BODIES] @ weight.T + bias

    def _pooled(self, adapter: Adapter) -> Tensor:
        """The states that a head reads of the probes [P, H]."""
        backbone = self._backbone
        batch = backbone.pack(backbone.text.encode(self._texts, 128))
        with torch.inference_mode(), adapter.attached(backbone), backbone.running(batch) as hidden:
            return READOUTS["pooled"].states(backbone, hidden, batch, SPEC.pooling)

    def _manifest(self, task: str, body: Adapter, logits: Tensor) -> Manifest:
        return manifest_of(task, self._backbone, body, list(zip(self._texts, logits.tolist(), strict=True)))


def manifest_of(
    task: str, backbone: Backbone, body: Adapter, probes: Sequence[tuple[str, list[float]]]
) -> Manifest:
    """Of a task with the labels of SPEC; probes are texts with their logits."""
    return Manifest(
        task=task,
        created="2026-01-02T03:04:05Z",
        backbone=BackboneRef(
            family=backbone.family.name,
            name=backbone.name,
            config_digest=backbone.config_digest,
            weights_digest=backbone.weights_digest,
        ),
        method=MethodRef(name=body.method.name, config=body.method.config()),
        head=head_of(SPEC),
        input=InputRef(fields=["text"], max_tokens=128),
        provenance=Provenance(code_version="benchmark", config={}, seed=0),
        probes=[Probe(text=text, logits=logits) for text, logits in probes],
    )


def name_of(number: int) -> str:
    return f"task-{number:06d}"


def fill(root: Path, files: Files, count: int) -> None:
    """A store with `count` tasks; what a crash would leave of it does not matter here."""
    with mock.patch.object(os, "fsync"):
        store = AdapterStore(root)
        for number in range(count):
            store.publish(name_of(number), files.data(number, name_of(number)))


def _moved(backbone: Backbone, method: str, seed: int) -> Adapter:
    adapter = Adapter.create(backbone, METHODS[method].from_config({}), SPEC, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.body_parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return adapter
