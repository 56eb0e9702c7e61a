"""From the bytes of a file to an adapter on its backbone, with its probes as rows. It runs nothing.

It knows files and networks, and how a manifest's head becomes a spec and back; no HTTP and no training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path

from torch import Tensor

from adapters_store import AdapterFile, AdapterFileError, FileLimits, HeadRef, Manifest, Probe, read_adapter
from adapters_store.adapter_file import read_adapter_file
from adapters_store.manifest import MAX_PROBES, Outline, rows_of
from failures import Failure
from modeling import (
    METHODS,
    Abstention,
    Adapter,
    AdapterError,
    Backbone,
    Encoded,
    EncodedRow,
    HeadSpec,
    Method,
    MethodError,
    Moulds,
    PackedAdapter,
    TextError,
    UnknownNameError,
    kind_of,
    readout_of,
)
from proof.errors import Refused

_CORRECT = "Correct it and write the file again."


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter that reads well and fits the backbone; its probes have not been replayed yet.

    Each probe is the rows that it becomes: one, or K for a probe with choices. Where a probe has a target,
    its row has it, too. They are the first probes of the file, as many as were asked for.
    """

    manifest: Manifest
    packed: PackedAdapter
    probes: tuple[tuple[EncodedRow, ...], ...]
    digest: str
    size_bytes: int
    tensors: Mapping[str, Tensor]

    def adapter(self, backbone: Backbone) -> Adapter:
        """The training form, on the backbone that it was examined for."""
        return Adapter.from_tensors(backbone, method_of(self.manifest), self.packed.spec, self.tensors)


def spec_of(head: HeadRef) -> HeadSpec:
    """What a manifest says of the answers."""
    abstain = None if head.abstain is None else Abstention(**dict(head.abstain))
    return HeadSpec(**{**dict(head), "labels": tuple(head.labels), "abstain": abstain})


def head_of(spec: HeadSpec) -> HeadRef:
    """The same as a manifest has it."""
    return HeadRef.model_validate({**asdict(spec), "labels": list(spec.labels)})


def read_file(path: Path) -> AdapterFile:
    """A file of our own or a stranger's. Raises AdapterFileError with every failure, and OSError."""
    return read_adapter_file(path, judge=judge)


def judge(head: HeadRef, probes: Sequence[Probe]) -> list[Failure]:
    """What is wrong with a head and probes whose parts are sound, once it is known what they mean."""
    spec = spec_of(head)
    try:
        readout, kind = readout_of(spec), kind_of(spec)
    except UnknownNameError as error:
        remedy = "Correct it, or use the version of Trunkline that wrote it."
        return [Failure("manifest.head.kind", repr(spec.kind), ", ".join(error.known), remedy)]
    failures = [replace(found, field=f"manifest.{found.field}") for found in readout.check(spec)]
    for index, probe in enumerate(probes):
        place = f"manifest.probes.{index}"
        if (probe.choices is not None) != kind.choices:
            allowed = "A list of choices" if kind.choices else f"No choices: the kind is {spec.kind}"
            failures.append(Failure(f"{place}.choices", repr(probe.choices)[:80], allowed, _CORRECT))
        if readout.pairs and probe.text_pair is None and probe.choices is None:
            allowed = f"A second text: the pooling {spec.pooling} reads pairs"
            failures.append(Failure(f"{place}.text_pair", "null", allowed, _CORRECT))
        if (probe.words is not None) != readout.reads_words:
            allowed = "A list of words" if readout.reads_words else f"No words: the kind is {spec.kind}"
            failures.append(Failure(f"{place}.words", repr(probe.words)[:80], allowed, _CORRECT))
        if bool(probe.target) != readout.writes:
            allowed = "A string" if readout.writes else "null: the head has labels"
            failures.append(Failure(f"{place}.target", repr(probe.target)[:80], allowed, _CORRECT))
    return failures


def examine(
    data: bytes,
    backbone: Backbone,
    *,
    task: str | None = None,
    limits: FileLimits | None = None,
    num_probes: int = MAX_PROBES,
    moulds: Moulds | None = None,
) -> Candidate:
    """Read a file and build its adapter. Raises Refused with every problem.

    `moulds` are those of the backbone, if many files are examined. One probe is read as rows in any case: it
    shows whether the file's limit is one of the backbone's.
    """
    try:
        file = read_adapter(data, limits=limits, judge=judge)
    except AdapterFileError as error:
        raise Refused(error.failures) from error
    return candidate_of(file, backbone, task=task, num_probes=max(1, num_probes), moulds=moulds)


def candidate_of(
    file: AdapterFile,
    backbone: Backbone,
    *,
    task: str | None = None,
    num_probes: int = MAX_PROBES,
    moulds: Moulds | None = None,
) -> Candidate:
    """The adapter of a file that was read with `judge`. Raises Refused with every problem."""
    manifest = file.manifest
    failures = [*_task_failures(manifest, task), *backbone_failures(manifest, backbone)]
    if {"manifest.backbone.family", "manifest.backbone.config_digest"} & {one.field for one in failures}:
        raise Refused(failures)  # what is wrong with its tensors on another architecture says nothing
    probes = _encode_probes(manifest, backbone, failures, num_probes)
    try:
        method = method_of(manifest)
        packed = (moulds or Moulds(backbone)).cast(method, spec_of(manifest.head), file.tensors)
    except UnknownNameError as error:
        remedy = "use a server of the version that wrote the file."
        failures.append(Failure("manifest.method.name", repr(manifest.method.name), str(error), remedy))
    except MethodError as error:
        allowed = "a configuration of this method"
        failures.append(Failure("manifest.method.config", str(error), allowed, "train again."))
    except AdapterError as error:
        failures += error.failures
    else:
        failures += _room_failures(manifest, packed.virtual_tokens, backbone)
        failures += _string_failures(manifest, backbone)
        if not failures:
            return Candidate(manifest, packed, probes, file.digest, file.size_bytes, file.tensors)
    raise Refused(failures)


def method_of(manifest: Manifest | Outline) -> Method:
    """The method with its options. Raises UnknownNameError, MethodError."""
    return _method(manifest.method.name, json.dumps(manifest.method.config, sort_keys=True))


@lru_cache(maxsize=256)
def _method(name: str, config: str) -> Method:
    """A method cannot be changed, and checking its options takes longer than reading a file."""
    return METHODS[name].from_config(json.loads(config))


def backbone_failures(manifest: Manifest, backbone: Backbone) -> list[Failure]:
    """Family and digests must be those of the backbone at hand: equal width is not enough.

    A file may hold the digest of the config that was used before docs/decisions/0028: of everything in it.
    """
    earlier = manifest.backbone.config_digest == backbone.earlier_config_digest
    wanted = {
        "family": backbone.family.name,
        "config_digest": manifest.backbone.config_digest if earlier else backbone.config_digest,
        "weights_digest": backbone.weights_digest,
    }
    remedy = f"train it for the served backbone ({backbone.name}), or serve the one it was trained on."
    return [
        Failure(f"manifest.backbone.{name}", repr(getattr(manifest.backbone, name)), repr(value), remedy)
        for name, value in wanted.items()
        if getattr(manifest.backbone, name) != value
    ]


def _task_failures(manifest: Manifest, task: str | None) -> list[Failure]:
    if task is None or manifest.task == task:
        return []
    remedy = f"upload it to /v1/tasks/{manifest.task}/versions, or write the file for {task!r}."
    return [Failure("manifest.task", repr(manifest.task), repr(task), remedy)]


def _room_failures(manifest: Manifest, virtual_tokens: int, backbone: Backbone) -> list[Failure]:
    """Virtual tokens take positions too: text and they must fit the backbone together."""
    room, max_tokens = backbone.max_tokens - virtual_tokens, manifest.input.max_tokens
    if not virtual_tokens or max_tokens <= room:
        return []
    allowed = f"at most {room}: the method puts {virtual_tokens} virtual tokens in front of every text, "
    allowed += f"and {backbone.name} takes {backbone.max_tokens} in all"
    remedy = "train it with a lower max_tokens, or with fewer virtual tokens."
    return [Failure("manifest.input.max_tokens", str(max_tokens), allowed, remedy)]


def _string_failures(manifest: Manifest, backbone: Backbone) -> list[Failure]:
    """Label strings and targets are read by the decoder, which has as many positions as the encoder."""
    if not readout_of(spec_of(manifest.head)).decodes:
        return []
    strings = {f"manifest.head.labels.{i}": label for i, label in enumerate(manifest.head.labels)}
    targets = {f"manifest.probes.{i}.target": probe.target for i, probe in enumerate(manifest.probes)}
    strings |= {field: target for field, target in targets.items() if target is not None}
    allowed, remedy = f"a string of at most {backbone.max_tokens} tokens", "shorten it."
    lengths = map(len, backbone.label_ids(list(strings.values())))
    failures = [
        Failure(field, f"{length} tokens", allowed, remedy)
        for field, length in zip(strings, lengths, strict=True)
        if length > backbone.max_tokens
    ]
    limit = manifest.head.max_new_tokens or 0
    if limit > backbone.max_tokens:
        allowed = f"at most {backbone.max_tokens}, the positions of {backbone.name}"
        failures.append(Failure("manifest.head.max_new_tokens", str(limit), allowed, "train it with fewer."))
    return failures


def _encode_probes(
    manifest: Manifest, backbone: Backbone, failures: list[Failure], count: int
) -> tuple[tuple[EncodedRow, ...], ...]:
    """The rows of each of the first probes, each with the string that it scores if it names one."""
    limit, probes = manifest.input.max_tokens, manifest.probes[:count]
    texts = [rows_of(probe.text, probe.text_pair, probe.choices) for probe in probes]
    try:
        readout = readout_of(spec_of(manifest.head))
        rows = iter(readout.encode(backbone.text, [text for own in texts for text in own], limit))
    except TextError as error:
        remedy = "train it with a limit that this backbone has."
        failures.append(Failure("manifest.input.max_tokens", str(limit), str(error), remedy))
        return ()
    found: list[tuple[EncodedRow, ...]] = []
    for index, (probe, own) in enumerate(zip(probes, texts, strict=True)):
        read: list[EncodedRow] = [next(rows) for _ in own]
        if probe.words is not None:
            read = [_with_first_words(row.parts[0], probe.words, index, failures) for row in read]
        elif probe.target is not None:
            (ids,) = backbone.label_ids([probe.target])
            read = [replace(row.parts[0], target=tuple(ids)) for row in read]
        found.append(tuple(read))
    return tuple(found)


def _with_first_words(
    row: Encoded, wanted: Sequence[Sequence[int]], index: int, failures: list[Failure]
) -> Encoded:
    """The row with as many words as its probe has, which must be the ones that are found in its text now."""
    words = row.words[: len(wanted)]
    for place, (one, word) in enumerate(zip_longest(wanted, words)):
        if word is None or one != [word.start, word.end]:
            found = "no word" if word is None else f"a word at {[word.start, word.end]}"
            remedy = "use the version of Trunkline that wrote it, or train it again."
            failures.append(Failure(f"manifest.probes.{index}.words.{place}", str(one), found, remedy))
            break
    return replace(row, words=words)
