"""From the bytes of a file to an adapter that may be served: read it, fit the backbone, replay the probes.

The same steps serve an upload, the start of the service and `check_file`. Knows files, networks and
tolerances; it knows no HTTP, and nothing of who runs the model (`plan_probes` in `replay.py` says what to
run, `compare` judges what came out). L labels, K choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from adapters_store import AdapterFileError, FileLimits, Manifest, Probe, read_adapter
from adapters_store.manifest import TEXT_TO_TEXT
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

from ..engine.request import Input, Logits, Placement, ServingCard
from ..engine.runner import place
from ..errors import Problem, RefusedAdapter
from .replay import BARE, by_probe, plan_probes, replay

MAX_LISTED_PROBES = 8
MAX_FORM_CHARS = 500


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far replayed logits may be from recorded ones: |got - recorded| <= atol + rtol * |recorded|."""

    atol: float
    rtol: float


# The recorded logits are the trainer's, in float32; a service in 16 bit is off by its own rounding
# (2^-11 of a value in float16, 2^-8 in bfloat16, at every step of the pass).
TOLERANCES = {
    torch.float32: Tolerance(1e-4, 1e-4),
    torch.float16: Tolerance(0.03, 0.01),
    torch.bfloat16: Tolerance(0.15, 0.05),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter that reads well and fits the backbone; its probes have not been replayed yet.

    Each probe is the rows that it becomes: one, or K for a probe with choices. Where a probe has a target,
    its row has it, too.
    """

    manifest: Manifest
    packed: PackedAdapter
    probes: tuple[tuple[Encoded, ...], ...]
    digest: str
    size_bytes: int

    def card(self, placement: Placement) -> ServingCard:
        """What answering needs, once the adapter is installed."""
        manifest = self.manifest
        return ServingCard(
            spec=self.packed.spec,
            placement=placement,
            max_tokens=manifest.input.max_tokens,
            fields=tuple(manifest.input.fields),
            method=manifest.method.name,
            size_bytes=self.size_bytes,
            description=manifest.description,
            example=_example(manifest),
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


def check_file(data: bytes, backbone: Backbone, *, limits: FileLimits | None = None) -> CheckReport:
    """Do with a file what an upload does, on a model of its own, and publish nothing.

    Raises RefusedAdapter with every problem.
    """
    candidate = examine(data, backbone, limits=limits)
    model = ServedModel(backbone)
    batches = plan_probes(
        [(candidate.probes, place(model, candidate.packed))],
        neighbours=(BARE,),
        max_batch_tokens=4096,
        max_row_tokens=backbone.max_tokens,
    )
    logits = (one for batch in batches for one in replay(model, batch))
    report = compare(candidate, by_probe(candidate.probes, logits), TOLERANCES[backbone.dtype])
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
    if {"manifest.backbone.family", "manifest.backbone.config_digest"} & {one.field for one in problems}:
        raise _refused(problems)  # what is wrong with its tensors on another architecture says nothing
    probes = _encode_probes(manifest, backbone, problems)
    adapter = _build(manifest, file.tensors, backbone, problems)
    if adapter is not None:
        problems += _room_problems(manifest, adapter.virtual_tokens, backbone)
        problems += _string_problems(manifest, backbone)
        probes = _with_targets(manifest, backbone, probes)
    if problems or adapter is None:
        raise _refused(problems)
    return Candidate(manifest, adapter.pack(), probes, file.digest, file.size_bytes)


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


def _room_problems(manifest: Manifest, virtual_tokens: int, backbone: Backbone) -> list[Problem]:
    """Virtual tokens take positions too: text and they must fit the backbone together."""
    room, max_tokens = backbone.max_tokens - virtual_tokens, manifest.input.max_tokens
    if not virtual_tokens or max_tokens <= room:
        return []
    allowed = f"at most {room}: the method puts {virtual_tokens} virtual tokens in front of every text, "
    allowed += f"and {backbone.name} takes {backbone.max_tokens} in all"
    remedy = "train it with a lower max_tokens, or with fewer virtual tokens."
    return [Problem("manifest.input.max_tokens", str(max_tokens), allowed, remedy)]


def _string_problems(manifest: Manifest, backbone: Backbone) -> list[Problem]:
    """Label strings and targets are read by the decoder, which has as many positions as the encoder."""
    if manifest.head.kind != TEXT_TO_TEXT:
        return []
    strings = {f"manifest.head.labels.{index}": label for index, label in enumerate(manifest.head.labels)}
    for index, probe in enumerate(manifest.probes):
        if probe.target is not None:
            strings[f"manifest.probes.{index}.target"] = probe.target
    allowed, remedy = f"a string of at most {backbone.max_tokens} tokens", "shorten it."
    lengths = map(len, backbone.label_ids(list(strings.values())))
    problems = [
        Problem(field, f"{length} tokens", allowed, remedy)
        for field, length in zip(strings, lengths, strict=True)
        if length > backbone.max_tokens
    ]
    limit = manifest.head.max_new_tokens or 0
    if limit > backbone.max_tokens:
        allowed = f"at most {backbone.max_tokens}, the positions of {backbone.name}"
        problems.append(Problem("manifest.head.max_new_tokens", str(limit), allowed, "train it with fewer."))
    return problems


def _with_targets(
    manifest: Manifest, backbone: Backbone, probes: tuple[tuple[Encoded, ...], ...]
) -> tuple[tuple[Encoded, ...], ...]:
    """The rows of the probes of a task without labels, each with the string that it scores."""
    if not manifest.head.is_free_text:
        return probes
    targets = backbone.label_ids([probe.target or "" for probe in manifest.probes])
    return tuple(
        tuple(replace(row, target=tuple(ids)) for row in rows)
        for rows, ids in zip(probes, targets, strict=False)
    )


def _encode_probes(
    manifest: Manifest, backbone: Backbone, problems: list[Problem]
) -> tuple[tuple[Encoded, ...], ...]:
    limit = manifest.input.max_tokens
    try:
        return tuple(tuple(backbone.text.encode(_items(probe), limit)) for probe in manifest.probes)
    except TextError as error:
        remedy = "train it with a limit that this backbone has."
        problems.append(
            Problem("manifest.input.max_tokens", str(manifest.input.max_tokens), str(error), remedy)
        )
        return ()


def _items(probe: Probe) -> list[TextItem]:
    """The rows of a probe: each choice is the second text of a pair."""
    if probe.choices is not None:
        return [(probe.text, choice) for choice in probe.choices]
    return [probe.text if probe.text_pair is None else (probe.text, probe.text_pair)]


def _example(manifest: Manifest) -> Input:
    """The form of an input, with names of fields in braces: what stands there is never a text of the data.

    Of a text-to-text task it is the source's form as the trainer noted it.
    """
    fields = [f"{{{name}}}" for name in manifest.input.fields]
    if manifest.head.kind == "multiple_choice":
        return {"text": fields[0], "choices": ["{choice 0}", "{choice 1}"]}
    if manifest.head.kind == "text_to_text":
        form = manifest.provenance.config.get("text_to_text")
        noted = form.get("source_form") if isinstance(form, dict) else None
        return noted if isinstance(noted, str) and len(noted) <= MAX_FORM_CHARS else fields[0]
    return fields[0] if len(fields) == 1 else {"text": fields[0], "text_pair": fields[1]}


def _build(
    manifest: Manifest, tensors: dict[str, torch.Tensor], backbone: Backbone, problems: list[Problem]
) -> Adapter | None:
    head = manifest.head
    spec = HeadSpec(
        head.kind,
        tuple(head.labels),
        head.pooling,
        head.threshold,
        head.low,
        head.high,
        head.max_new_tokens,
    )
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
