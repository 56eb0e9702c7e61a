"""Any adapter round-trips; any damage to any file is refused with reasons, and raises nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters_store import AdapterFile, AdapterFileError, Manifest, read_adapter, write_adapter
from adapters_store.manifest import parse_manifest
from adapters_store.names import NAME_PATTERN

DIGEST = "sha256:" + "0" * 64
FAST = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
shown = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
tap_names = st.from_regex(
    r"(encoder|decoder)\.[0-9]{1,2}\.[a-z][a-z_]{0,8}/[a-z][a-z0-9_]{0,8}", fullmatch=True
)


@st.composite
def heads(draw: st.DrawFn) -> dict[str, Any]:
    kinds = ["single_label", "multi_label", "regression", "multiple_choice", "text_to_text"]
    kind = draw(st.sampled_from(kinds))
    poolings = ["none"] if kind == "text_to_text" else ["mean", "first", "pooler", "eos"]
    head: dict[str, Any] = {"kind": kind, "pooling": draw(st.sampled_from(poolings))}
    head["labels"] = draw(st.lists(shown, min_size=1, max_size=1 if kind == "regression" else 6, unique=True))
    if kind == "multiple_choice":
        head["labels"] = ["choice"]
    if kind == "multi_label":
        head["threshold"] = draw(st.none() | st.floats(0.01, 0.99))
    if kind == "regression" and draw(st.booleans()):
        head["low"], head["high"] = draw(st.tuples(st.floats(-9, 0), st.floats(1, 9)))
    return head


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    head = draw(heads())
    fields = draw(st.lists(shown, min_size=1, max_size=2))
    multiple = head["kind"] == "multiple_choice"
    pair = texts if len(fields) == 2 and not multiple else st.none()
    num_logits = draw(st.integers(2, 4)) if multiple else len(head["labels"])
    logits = st.lists(finite, min_size=num_logits, max_size=num_logits)
    choices = {"choices": st.lists(texts, min_size=num_logits, max_size=num_logits)} if multiple else {}
    probe = st.fixed_dictionaries({"text": texts, "text_pair": pair, "logits": logits, **choices})
    config = st.dictionaries(texts, plain_json, max_size=3)
    return Manifest.model_validate(
        {
            "task": draw(st.from_regex(NAME_PATTERN, fullmatch=True)),
            "description": draw(texts),
            "created": draw(st.datetimes()).isoformat() + "Z",
            "backbone": {
                "family": "bert",
                "name": draw(shown),
                "config_digest": DIGEST,
                "weights_digest": DIGEST,
            },
            "method": {"name": "hadamard", "config": draw(config)},
            "head": head,
            "input": {"fields": fields, "max_tokens": draw(st.integers(1, 8192))},
            "metrics": None,
            "provenance": {"code_version": "0.1.0", "config": draw(config), "seed": draw(st.integers())},
            "probes": draw(st.lists(probe, min_size=8, max_size=9)),
        }
    )


@st.composite
def tensors_for(draw: st.DrawFn, manifest: Manifest) -> dict[str, torch.Tensor]:
    hidden, num_labels = draw(st.integers(1, 5)), len(manifest.head.labels)
    shapes: dict[str, tuple[int, ...]] = {"head/weight": (num_labels, hidden), "head/bias": (num_labels,)}
    if manifest.head.kind == "text_to_text":
        shapes.clear()
    for name in draw(st.lists(tap_names, max_size=4, unique=True)):
        shapes[name] = tuple(draw(st.lists(st.integers(1, 4), max_size=4)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def outcome(data: bytes) -> AdapterFile | None:
    """The file, or None when it is refused with at least one complete reason; anything else is an error."""
    try:
        return read_adapter(data)
    except AdapterFileError as error:
        failures = error.failures
    assert failures
    assert all(f.field and f.got and f.allowed and f.remedy for f in failures)
    assert all(len(str(failure)) < 1_000 for failure in failures)
    return None


@pytest.fixture(scope="module")
def small_file() -> bytes:
    manifest = Manifest.model_validate(
        {
            "task": "t",
            "created": "2026-01-31T12:00:00Z",
            "backbone": {"family": "bert", "name": "b", "config_digest": DIGEST, "weights_digest": DIGEST},
            "method": {"name": "hadamard", "config": {}},
            "head": {"kind": "single_label", "labels": ["x", "y"]},
            "input": {"fields": ["text"], "max_tokens": 8},
            "provenance": {"code_version": "0", "config": {}, "seed": 0},
            "probes": [{"text": "", "logits": [0.0, 1.0]}] * 8,
        }
    )
    tensors = {
        "head/weight": torch.ones(2, 2),
        "head/bias": torch.ones(2),
        "encoder.0.attn_q/a": torch.ones(3),
    }
    return write_adapter(manifest, tensors)


@FAST
@given(data=st.data(), dtype=st.sampled_from(["float32", "float16"]))
def test_round_trip(data: st.DataObject, dtype: Any) -> None:
    manifest = data.draw(manifests())
    tensors = data.draw(tensors_for(manifest))
    raw = write_adapter(manifest, tensors, dtype=dtype)
    read = read_adapter(raw)
    assert read.manifest == manifest
    assert read.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        kept = tensor if dtype == "float32" else tensor.half().float()
        assert torch.equal(read.tensors[name], kept)
    assert write_adapter(read.manifest, read.tensors, dtype=dtype) == raw


@settings(FAST, max_examples=250)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_are_another_sound_file(small_file: bytes, data: st.DataObject) -> None:
    raw = bytearray(small_file)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    read = outcome(bytes(raw))
    if read is not None and bytes(raw) != small_file:
        assert read.digest != read_adapter(small_file).digest
        assert all(bool(torch.isfinite(tensor).all()) for tensor in read.tensors.values())


@settings(FAST, max_examples=150)
@given(data=st.data())
def test_removed_repeated_and_inserted_stretches(small_file: bytes, data: st.DataObject) -> None:
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(small_file))] * 2)))
    stretch = data.draw(st.sampled_from([b"", small_file[begin:end] * 2]) | st.binary(max_size=30))
    changed = small_file[:begin] + stretch + small_file[end:]
    if changed != small_file:
        outcome(changed)


@settings(FAST, max_examples=150)
@given(raw=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    assert outcome(raw) is None
    assert outcome(len(raw).to_bytes(8, "little") + raw) is None


@FAST
@given(header=plain_json, data=st.binary(max_size=64))
def test_arbitrary_json_headers_are_refused(header: Any, data: bytes) -> None:
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    assert outcome(len(raw).to_bytes(8, "little") + raw + data) is None


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[tuple[int, int]], int]:
    """Byte ranges of float32 vectors and the size of the data; sound ones, and ones with an end moved."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    ends = np.cumsum([4 * size for size in sizes]).tolist()
    ranges = list(zip([0, *ends[:-1]], ends, strict=True))
    which = draw(st.integers(0, len(ranges) - 1))
    begin, end = ranges[which]
    moved = draw(st.sampled_from([(0, 0), (4, 4), (-4, 0), (0, 4), (2, 2), (0, -4), (-4, -4)]))
    ranges[which] = (begin + moved[0], end + moved[1])
    return draw(st.permutations(ranges)), ends[-1] + draw(st.sampled_from([0, 0, 0, 4, -4]))


@settings(FAST, max_examples=150)
@given(layout=layouts())
def test_only_ranges_that_tile_the_data_are_accepted(small_file: bytes, layout: Any) -> None:
    ranges, num_bytes = layout
    size = int.from_bytes(small_file[:8], "little")
    header = json.loads(small_file[8 : 8 + size])
    base = len(small_file) - 8 - size
    for index, (begin, end) in enumerate(ranges):
        shape, offsets = [max(end - begin, 4) // 4], [base + begin, base + end]
        header[f"shared/x{index}"] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    data = len(raw).to_bytes(8, "little") + raw + small_file[8 + size :] + bytes(num_bytes)
    in_order = sorted(ranges)
    tiles = [begin for begin, _ in in_order] + [num_bytes] == [0] + [end for _, end in in_order]
    tiles = tiles and all(begin < end for begin, end in ranges)
    assert (outcome(data) is not None) == tiles
    if tiles:
        assert len(safetensors.torch.load(data)) == len(ranges) + 3


@FAST
@given(value=plain_json)
def test_any_json_is_a_manifest_or_a_list_of_failures(value: Any) -> None:
    parsed = parse_manifest(json.dumps(value))
    assert parsed.manifest is None
    assert parsed.failures


@FAST
@given(manifest=manifests())
def test_manifests_round_trip_through_their_json(manifest: Manifest) -> None:
    parsed = parse_manifest(manifest.to_json())
    assert (parsed.manifest, parsed.failures) == (manifest, [])
    assert parsed.num_labels == len(manifest.head.labels)
