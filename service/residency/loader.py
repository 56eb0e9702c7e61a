"""From the bytes of a file to an adapter that may be served: read it, fit the backbone, replay the probes.

The same steps serve an upload, the start of the service and `check_file`. Knows files, networks and
tolerances; it knows no HTTP, and nothing of who runs the model (`plan_probes` says what to run, `compare`
judges what came out). L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adapters_store import AdapterFileError, FileLimits, Manifest, Probe, read_adapter
from modeling import (
    METHODS,
    Adapter,
    AdapterError,
    Backbone,
    Encoded,
    HeadSpec,
    MethodError,
    PackedAdapter,
    ServedModel,
    TextError,
    TextItem,
    UnknownNameError,
)

from ..engine.request import ServingCard
from ..engine.runner import Logits
from ..errors import Problem, RefusedAdapter

MAX_LISTED_PROBES = 8


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far replayed logits may be from recorded ones: |got - recorded| <= atol + rtol * |recorded|."""

    atol: float
    rtol: float


# The recorded logits are the trainer's, in float32; a service in 16 bit is off by its own rounding.
TOLERANCES = {torch.float32: Tolerance(1e-4, 1e-4), torch.bfloat16: Tolerance(0.15, 0.05)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter that reads well and fits the backbone; its probes have not been replayed yet."""

    manifest: Manifest
    packed: PackedAdapter
    probes: tuple[Encoded, ...]
    digest: str
    size_bytes: int

    def card(self, body_slot: int) -> ServingCard:
        """What answering needs, once the adapter is installed with its body in `body_slot`."""
        manifest = self.manifest
        return ServingCard(
            spec=self.packed.spec,
            body_slot=body_slot,
            max_tokens=manifest.input.max_tokens,
            fields=tuple(manifest.input.fields),
            method=manifest.method.name,
            size_bytes=self.size_bytes,
            description=manifest.description,
        )


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """How many probes were replayed, and the largest absolute difference of a logit."""

    count: int
    max_difference: float


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check_file` found in a file that may be served."""

    task: str
    method: str
    kind: str
    labels: tuple[str, ...]
    digest: str
    size_bytes: int
    probes: ProbeReport


@dataclass(frozen=True, slots=True)
class ProbeBatch:
    """The arguments of one `ServedModel.run`; only the probes' rows are read."""

    encoded: list[Encoded]
    body_slots: list[int]
    reads: list[tuple[int, int]]


def check_file(data: bytes, backbone: Backbone, *, limits: FileLimits | None = None) -> CheckReport:
    """Do with a file what an upload does, on a model of its own, and publish nothing.

    Raises RefusedAdapter with every problem.
    """
    candidate = examine(data, backbone, limits=limits)
    model = ServedModel(backbone)
    slot = model.install(candidate.packed)
    logits: list[Logits] = []
    for batch in plan_probes(
        [(candidate, slot, model.body_slot(slot))], neighbours=(0,), max_batch_tokens=4096
    ):
        logits += model.run(batch.encoded, batch.body_slots, batch.reads)
    report = compare(candidate, logits, TOLERANCES[backbone.dtype])
    manifest = candidate.manifest
    return CheckReport(
        task=manifest.task,
        method=manifest.method.name,
        kind=manifest.head.kind,
        labels=tuple(manifest.head.labels),
        digest=candidate.digest,
        size_bytes=candidate.size_bytes,
        probes=report,
    )


def examine(
    data: bytes, backbone: Backbone, *, task: str | None = None, limits: FileLimits | None = None
) -> Candidate:
    """Read a file and build its serving form. Raises RefusedAdapter with every problem. Runs nothing."""
    try:
        file = read_adapter(data, limits=limits)
    except AdapterFileError as error:
        raise _refused(error.failures) from error
    manifest = file.manifest
    problems = [*_task_problems(manifest, task), *_backbone_problems(manifest, backbone)]
    probes = _encode_probes(manifest, backbone, problems)
    adapter = _build(manifest, file.tensors, backbone, problems)
    if problems or adapter is None:
        raise _refused(problems)
    return Candidate(manifest, adapter.pack(), probes, file.digest, file.size_bytes)


def plan_probes(
    installed: Sequence[tuple[Candidate, int, int]],
    *,
    neighbours: Sequence[int],
    max_batch_tokens: int,
    num_probes: int | None = None,
) -> list[ProbeBatch]:
    """Batches that replay the probes of installed candidates (candidate, slot, body slot), in their order.

    Each probe stands beside the same text under one of the `neighbours` (body slots), so that the replay is a
    mixed batch as in serving. `num_probes` per candidate, all by default.
    """
    batches = [ProbeBatch([], [], [])]
    num_tokens = turn = 0
    for candidate, slot, body_slot in installed:
        for encoded in candidate.probes[:num_probes]:
            body_slots = [body_slot, neighbours[turn % len(neighbours)]] if neighbours else [body_slot]
            turn += 1
            cost_tokens = len(encoded) * len(body_slots)
            if batches[-1].encoded and num_tokens + cost_tokens > max_batch_tokens:
                batches.append(ProbeBatch([], [], []))
                num_tokens = 0
            batch = batches[-1]
            batch.reads.append((len(batch.encoded), slot))
            batch.encoded.extend([encoded] * len(body_slots))
            batch.body_slots.extend(body_slots)
            num_tokens += cost_tokens
    return batches if batches[0].encoded else []


def compare(candidate: Candidate, logits: Sequence[Logits], tolerance: Tolerance) -> ProbeReport:
    """Judge the replayed logits of the first probes. Raises RefusedAdapter naming those that differ."""
    problems: list[Problem] = []
    max_difference = 0.0
    for index, got in enumerate(logits):
        wanted = np.asarray(candidate.manifest.probes[index].logits, dtype=np.float64)  # [L]
        difference = np.abs(got.astype(np.float64) - wanted)
        if not np.isfinite(got).all():
            problems.append(_probe_problem(index, "logits that are not finite", "finite logits"))
        elif (difference > tolerance.atol + tolerance.rtol * np.abs(wanted)).any():
            allowed = f"within {tolerance.atol:g} + {tolerance.rtol:g} x the recorded value"
            problems.append(_probe_problem(index, f"logits that differ by {difference.max():.3g}", allowed))
        else:
            max_difference = max(max_difference, float(difference.max()))
    if problems:
        raise _refused(problems, what=f"{len(problems)} of {len(logits)} probes are not reproduced")
    return ProbeReport(len(logits), max_difference)


def _probe_problem(index: int, got: str, allowed: str) -> Problem:
    remedy = "serve it with the backbone it was trained on, unchanged; else train it again."
    return Problem(f"probes.{index}", got, allowed, remedy)


def _refused(failures: Sequence[Any], what: str = "the adapter cannot be served") -> RefusedAdapter:
    """One error from the failures of any package: all have the same four fields."""
    problems = [Problem(f.field, f.got, f.allowed, f.remedy) for f in failures]
    listed = problems[:MAX_LISTED_PROBES]
    more = f" (and {len(problems) - len(listed)} more)" if len(problems) > len(listed) else ""
    details = "; ".join(f"{p.field}: got {p.got}, allowed: {p.allowed}" for p in listed)
    return RefusedAdapter(f"{what}: {details}{more}", problems)


def _task_problems(manifest: Manifest, task: str | None) -> list[Problem]:
    if task is None or manifest.task == task:
        return []
    remedy = f"upload it to /v1/tasks/{manifest.task}/versions, or write the file for {task!r}."
    return [Problem("manifest.task", repr(manifest.task), repr(task), remedy)]


def _backbone_problems(manifest: Manifest, backbone: Backbone) -> list[Problem]:
    """Family and digests must be those of the served backbone: equal width is not enough."""
    wanted = {
        "family": backbone.family.name,
        "config_digest": backbone.config_digest,
        "weights_digest": backbone.weights_digest,
    }
    remedy = f"train it for the served backbone ({backbone.name}), or serve the one it was trained on."
    return [
        Problem(f"manifest.backbone.{name}", repr(getattr(manifest.backbone, name)), repr(value), remedy)
        for name, value in wanted.items()
        if getattr(manifest.backbone, name) != value
    ]


def _encode_probes(manifest: Manifest, backbone: Backbone, problems: list[Problem]) -> tuple[Encoded, ...]:
    try:
        return tuple(backbone.text.encode([_item(p) for p in manifest.probes], manifest.input.max_tokens))
    except TextError as error:
        remedy = "train it with a limit that this backbone has."
        problems.append(
            Problem("manifest.input.max_tokens", str(manifest.input.max_tokens), str(error), remedy)
        )
        return ()


def _item(probe: Probe) -> TextItem:
    return probe.text if probe.text_pair is None else (probe.text, probe.text_pair)


def _build(
    manifest: Manifest, tensors: dict[str, torch.Tensor], backbone: Backbone, problems: list[Problem]
) -> Adapter | None:
    head = manifest.head
    spec = HeadSpec(head.kind, tuple(head.labels), head.pooling, head.threshold, head.low, head.high)
    try:
        method = METHODS[manifest.method.name].from_config(manifest.method.config)
        return Adapter.from_tensors(backbone, method, spec, tensors)
    except UnknownNameError as error:
        remedy = "use a server of the version that wrote the file."
        problems.append(Problem("manifest.method.name", repr(manifest.method.name), str(error), remedy))
    except MethodError as error:
        problems.append(
            Problem("manifest.method.config", str(error), "a configuration of this method", "train again.")
        )
    except AdapterError as error:
        problems += [Problem(f.field, f.got, f.allowed, f.remedy) for f in error.failures]
    return None
