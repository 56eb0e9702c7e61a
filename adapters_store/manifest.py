"""The manifest of an adapter file: what the tensors are for. Pure data; no tensors, no files, no networks.

A manifest is read strictly (types as written, unknown keys refused) and every violation is listed, also
those between parts, such as a probe with fewer logits than there are labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, FailFast, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from adapters_store.errors import show
from adapters_store.names import Digest, Name
from adapters_store.strict_json import parse_json
from failures import Failure

SCHEMA_VERSIONS = (1, 2)
"""What is read. Written is the first that has all fields in use (`schema_version_of`)."""
MIN_PROBES, MAX_PROBES = 8, 32
MIN_CHOICES, MAX_CHOICES = 2, 100
MAX_LABELS = 10_000
MAX_NEW_TOKENS = 100_000
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
MAX_KEYS = 1_000
"""Most keys of one object; each unknown one is a failure, and probes are objects too."""

NO_POOLING = "none"
"""The pooling of a task that has no head."""

_SINCE_2 = ("temperature", "abstain")
"""Fields of a head that schema version 2 brought."""
_CORRECT = "Correct it and write the file again."
_NO_PAIR = ("null, as input.fields has one", "null: each choice is the second text of a pair")
_POOLING, _LABELS = "manifest.head.pooling", "manifest.head.labels"
_REMEDIES = {"missing": "Add it.", "extra_forbidden": "Remove it."}
_Violation = tuple[tuple[str | int, ...], str, object]  # where, what is allowed, what was found


def _utc_time(text: str) -> str:
    try:
        offset = datetime.fromisoformat(text).utcoffset()
    except ValueError:
        offset = None
    if offset != timedelta(0):
        raise PydanticCustomError("utc_time", "An ISO 8601 time in UTC, such as 2026-01-31T12:00:00Z")
    return text


_NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f-\x9f]*$"  # names are printed on terminals
UtcTime = Annotated[str, Field(max_length=40), AfterValidator(_utc_time)]
Bounds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
ShortText = Annotated[str, Field(min_length=1, max_length=200, pattern=_NO_CONTROL_CHARACTERS)]


class BackboneRef(BaseModel, frozen=True, extra="forbid"):
    """The backbone the adapter was trained on; both digests must be those of the backbone that serves it."""

    family: Name
    name: ShortText
    config_digest: Digest
    weights_digest: Digest


class MethodRef(BaseModel, frozen=True, extra="forbid"):
    """A method by name, and its configuration as plain JSON data; only the method knows what it means."""

    name: Name
    config: dict[str, Any]


class AbstainRef(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The score under which an answer is withheld (schema version 2).

    `target_error` was asked for; `coverage` is the share of `rows` held-out rows that were answered with it,
    `error` the share of those that were wrong, `error_bound` its one-sided upper bound.
    """

    threshold: Annotated[float, Field(gt=0, le=1)]
    target_error: Annotated[float, Field(gt=0, lt=1)]
    coverage: Annotated[float, Field(ge=0, le=1)]
    error: Annotated[float, Field(ge=0, le=1)]
    error_bound: Annotated[float, Field(ge=0, le=1)]
    rows: Annotated[int, Field(ge=1)]


class HeadRef(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What the answers are: `labels` in the order of the rows of head/weight, without which there is no head;
    `pooling` none where no state is read.

    What a kind means, and which of the other fields it has, is for `modeling` to say: here they are only
    sound in themselves, and with each other in a `Manifest`.
    """

    kind: ShortText
    labels: Annotated[list[ShortText], Field(max_length=MAX_LABELS)]
    pooling: Literal["unit", "mean", "first", "pooler", "eos", "apart", "none"] = "mean"
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    low: float | None = None
    high: float | None = None
    max_new_tokens: Annotated[
        Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] | None, Field(exclude_if=lambda limit: limit is None)
    ] = None
    temperature: Annotated[
        Annotated[float, Field(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)] | None,
        Field(exclude_if=lambda temperature: temperature is None),
    ] = None
    abstain: Annotated[AbstainRef | None, Field(exclude_if=lambda abstain: abstain is None)] = None


class InputRef(BaseModel, frozen=True, extra="forbid"):
    """Names of the one or two text fields, and the token limit (special tokens included)."""

    fields: Annotated[list[ShortText], Field(min_length=1, max_length=2)]
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    truncation: Literal["longest_first"] = "longest_first"


class MetricsRef(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What was measured, on how many rows of which split of which data."""

    split: ShortText
    rows: Annotated[int, Field(ge=0)]
    values: dict[str, float]
    data_digest: Digest


class Provenance(BaseModel, frozen=True, extra="forbid"):
    """How to train it again."""

    code_version: ShortText
    config: dict[str, Any]
    seed: int


class Probe(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """One input with the logits [L] the trainer saw; replayed before a version becomes visible.

    A probe with `choices` has one logit for each; one with a `target` has one, its log probability; one with
    `words`, the first words of its text as [start, end] in characters, has L for each of them. Other probes
    are written without these keys.
    """

    text: str
    text_pair: str | None = None
    choices: Annotated[
        Annotated[list[str], Field(min_length=MIN_CHOICES, max_length=MAX_CHOICES)] | None,
        Field(exclude_if=lambda choices: choices is None),
    ] = None
    target: Annotated[str | None, Field(exclude_if=lambda target: target is None)] = None
    words: Annotated[
        Annotated[list[Bounds], Field(min_length=1, max_length=MAX_LABELS)] | None,
        Field(exclude_if=lambda words: words is None),
    ] = None
    logits: Annotated[list[float], Field(min_length=1, max_length=MAX_LABELS), FailFast()]


def rows_of(text: str, text_pair: str | None, choices: Sequence[str] | None) -> list[str | tuple[str, str]]:
    """The texts and pairs that a backbone reads for one input: each choice is the second text of a pair."""
    if choices is not None:
        return [(text, choice) for choice in choices]
    return [text if text_pair is None else (text, text_pair)]


Probes = Annotated[list[Probe], Field(min_length=MIN_PROBES, max_length=MAX_PROBES)]


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """Everything an adapter file says about itself."""

    schema_version: Literal[1, 2] = 1
    task: Name
    description: Annotated[str, Field(max_length=2_000)] = ""
    created: UtcTime
    backbone: BackboneRef
    method: MethodRef
    head: HeadRef
    input: InputRef
    metrics: MetricsRef | None = None
    provenance: Provenance
    probes: Probes

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        violations = list(_head_violations(self.head))  # of a wrong head, nothing follows for probes
        violations += _version_violations(self.schema_version, self.head)
        _raise("Manifest", violations or list(_probe_violations(self.head, self.input, self.probes)))
        return self

    def to_json(self) -> str:
        """Canonical JSON: equal manifests give equal bytes. Raises ValueError for what JSON cannot hold."""
        value = self.model_dump(mode="python")
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Outline(BaseModel, frozen=True, extra="ignore"):
    """What serving reads of a manifest that was judged before; the rest, probes above all, is passed over."""

    task: Name
    method: MethodRef
    head: HeadRef
    input: InputRef
    provenance: Provenance


def schema_version_of(head: HeadRef) -> Literal[1, 2]:
    """The first version that has all that a head says: older readers read what they can understand."""
    return 1 if all(getattr(head, name) is None for name in _SINCE_2) else 2


def _version_violations(version: int, head: HeadRef) -> Iterator[_Violation]:
    for name in _SINCE_2:
        if version < schema_version_of(head) and getattr(head, name) is not None:
            yield ("head", name), "null: there is no such field in schema version 1", getattr(head, name)


def _head_violations(head: HeadRef) -> Iterator[_Violation]:
    first_seen: dict[str, int] = {}
    for index, label in enumerate(head.labels):
        first = first_seen.setdefault(label, index)
        if first != index:
            yield ("head", "labels", index), f"A label that is not also label {first}", label
    if (head.low is None) != (head.high is None):
        yield ("head", "low"), "Both low and high, or neither", head.low
    if head.low is not None and head.high is not None and head.low >= head.high:
        yield ("head", "low"), f"Less than high ({head.high})", head.low


def _probe_violations(head: HeadRef, fields: InputRef, probes: list[Probe]) -> Iterator[_Violation]:
    choose = bool(probes) and probes[0].choices is not None
    pairs = len(fields.fields) == 2 and not choose  # the second field may name the choices
    for index, probe in enumerate(probes):
        num_words = 1 if probe.words is None else len(probe.words)
        num_logits = (len(probe.choices or head.labels) or 1) * num_words
        if (probe.choices is not None) != choose:
            allowed = f"{'A list of' if choose else 'No'} choices, like the first probe"
            yield ("probes", index, "choices"), allowed, probe.choices
        elif len(probe.logits) != num_logits:
            each = "choice" if choose else "label of each word" if probe.words else "label"
            allowed = f"{num_logits} logits, one per {each}"
            yield ("probes", index, "logits"), allowed, f"{len(probe.logits)} logits"
        if (probe.text_pair is not None) != pairs:
            allowed = "A second text, as input.fields has two" if pairs else _NO_PAIR[choose]
            yield ("probes", index, "text_pair"), allowed, probe.text_pair


def _raise(title: str, violations: list[_Violation]) -> None:
    """Raises all violations as one pydantic error, so that each keeps its own place."""
    if violations:
        details: list[InitErrorDetails] = []
        for loc, allowed, got in violations:
            kind = PydanticCustomError("inconsistent", "{allowed}", {"allowed": allowed})
            details.append(InitErrorDetails(type=kind, loc=loc, input=got))
        raise ValidationError.from_exception_data(title, details)


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """The manifest if it is valid; `num_labels` as far as it can be told, for checks against the head.

    `has_head` is False where there should be no tensors of a head.
    """

    manifest: Manifest | None
    num_labels: int | None
    failures: list[Failure]
    has_head: bool = True


Judge = Callable[[HeadRef, Sequence[Probe]], list[Failure]]
"""What is wrong with a head and probes whose parts are sound, for who knows what kinds mean."""


def no_judge(head: HeadRef, probes: Sequence[Probe]) -> list[Failure]:
    return []


def parse_manifest(text: str, *, max_values: int = 500_000, judge: Judge = no_judge) -> ParsedManifest:
    """Reads a manifest and lists everything that is wrong with it. Raises nothing."""
    raw = text.encode("utf-8", "surrogatepass")  # a lone surrogate then fails as invalid UTF-8
    value, failures = parse_json(raw, "manifest", max_values=max_values, max_keys=MAX_KEYS)
    if not isinstance(value, dict):
        failures = failures or [Failure("manifest", show(value), "one JSON object", _CORRECT)]
        return ParsedManifest(None, None, failures)
    unknown = _schema_failure(value)
    if unknown is not None:  # another schema has other keys: reporting each would only confuse
        return ParsedManifest(None, None, [*failures, unknown])
    manifest, violations, judged = _violations_of(value, raw, judge)
    pooling, num_labels = _pooling_and_labels(value)
    refused = {one.field for one in judged}
    if pooling == NO_POOLING or num_labels != 0:
        has_head = (pooling == NO_POOLING) == (_POOLING in refused)  # refused: the reverse
    else:
        has_head = _LABELS in refused  # without labels there is nothing that a head could score
    failures += _said_once(violations, judged)
    return ParsedManifest(None if failures else manifest, num_labels, failures, has_head)


def _schema_failure(value: dict[str, object]) -> Failure | None:
    found = value.get("schema_version")
    if type(found) is int and found in SCHEMA_VERSIONS:
        return None
    remedy = "Use the version of Trunkline that wrote it, or train the adapter again."
    return Failure("manifest.schema_version", show(found), "1 or 2", remedy)


def _pooling_and_labels(value: dict[str, object]) -> tuple[object, int | None]:
    """The head's pooling and its number of labels, valid or not; None where there is nothing to count."""
    head = value.get("head")
    if not isinstance(head, dict):
        return None, None
    labels = head.get("labels")
    return head.get("pooling"), len(labels) if isinstance(labels, list) else None


def _violations_of(
    value: dict[str, object], raw: bytes, judge: Judge
) -> tuple[Manifest | None, list[Failure], list[Failure]]:
    """The manifest if it is sound, else what it violates; and what the judge says."""
    try:
        manifest = Manifest.model_validate_json(raw, strict=True)
    except ValidationError as error:
        found = [_failure(details) for details in error.errors(include_url=False)]
        crossed, judged = _cross_failures(value, judge)
        return None, found + [one for one in crossed if one not in found], judged
    return manifest, [], judge(manifest.head, manifest.probes)


def _cross_failures(value: dict[str, object], judge: Judge) -> tuple[list[Failure], list[Failure]]:
    """Violations between parts that are sound themselves, and the judge's.

    Pydantic stops before them when any part is not.
    """
    head, fields = _part(HeadRef, value.get("head")), _part(InputRef, value.get("input"))
    if head is None:
        return [], []
    items = value.get("probes")
    read = [_part(Probe, item) for item in items] if isinstance(items, list) else []
    probes = [] if None in read else [probe for probe in read if probe is not None]
    violations = [*_head_violations(head), *_version_violations(int(str(value["schema_version"])), head)]
    if fields is not None and not violations:
        violations += _probe_violations(head, fields, probes)
    crossed = [Failure(_place(loc), show(got), allowed, _CORRECT) for loc, allowed, got in violations]
    return crossed, judge(head, probes)


def _said_once(violations: list[Failure], judged: list[Failure]) -> list[Failure]:
    """The judge alone speaks of a field that both refuse, and of probes whose choices it refuses.

    It is silent where something inside its field is wrong.
    """
    inside = {one.field.rpartition(".")[0] for one in violations}
    judged = [one for one in judged if one.field not in inside]
    fields = {one.field for one in judged}
    choices = ".choices"
    silent = fields | {name.removesuffix(choices) + ".logits" for name in fields if name.endswith(choices)}
    if any(one.field == _LABELS and one.got == show([]) for one in judged):  # how many logits is not known
        silent |= {one.field for one in violations if one.field.endswith(".logits")}
    return [one for one in violations if one.field not in silent] + judged


_Part = TypeVar("_Part", bound=BaseModel)


def _part(kind: type[_Part], value: object) -> _Part | None:
    try:
        return kind.model_validate_json(json.dumps(value), strict=True)
    except (ValidationError, RecursionError):
        return None


def _failure(details: ErrorDetails) -> Failure:
    kind = details["type"]
    got = "nothing" if kind == "missing" else show(details["input"])
    return Failure(_place(details["loc"]), got, details["msg"], _REMEDIES.get(kind, _CORRECT))


def _place(loc: tuple[str | int, ...]) -> str:
    plain = (str(part) if isinstance(part, int) or part.isidentifier() else show(part) for part in loc)
    return ".".join(["manifest", *plain])
