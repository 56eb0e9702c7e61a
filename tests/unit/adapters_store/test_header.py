"""Hostile headers: each is refused with a message that names it, before another parser sees the bytes."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from adapters_store import AdapterFileError, FileLimits, read_adapter
from failures import Failure

BuildFile = Callable[..., bytes]


def refused(data: bytes, limits: FileLimits | None = None) -> tuple[Failure, ...]:
    with pytest.raises(AdapterFileError) as error:
        read_adapter(data, limits=limits)
    assert all(f.field and f.got and f.allowed and f.remedy for f in error.value.failures)
    return error.value.failures


def only(failures: tuple[Failure, ...]) -> Failure:
    assert len(failures) == 1, [str(failure) for failure in failures]
    return failures[0]


def torch_saved(**options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"head/weight": torch.ones(2)}, buffer, **options)
    return buffer.getvalue()


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w"):
        pass
    return buffer.getvalue()


def tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("adapter/weights"))
    return buffer.getvalue()


def numpy_bytes() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (60, 76)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_the_builder_of_these_tests_builds_a_sound_file(build_file: BuildFile) -> None:
    assert set(read_adapter(build_file()).tensors) == {"head/weight", "head/bias"}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (torch_saved(), "zip archive"),
        (zip_bytes(), "empty zip archive"),
        (torch_saved(_use_new_zipfile_serialization=False), "pickle"),
        *((pickle.dumps({"a": 1}, protocol=protocol), "pickle") for protocol in (2, 3, 4, 5)),
        (tar_bytes(), "tar archive"),
        (b"\x1f\x8b" + bytes(30), "gzip"),
        (numpy_bytes(), "NumPy"),
        (b"GGUF" + bytes(30), "GGUF"),
        (b"\x89HDF\r\n\x1a\n" + bytes(30), "HDF5"),
    ],
)
def test_other_formats_are_named_plainly(data: bytes, kind: str) -> None:
    failure = only(refused(data))
    assert failure.field == "file"
    assert kind in failure.got


def test_a_header_whose_length_looks_like_a_pickle_is_not_one(build_file: BuildFile) -> None:
    """640 bytes of header begin with 80 02, which is also how a pickle of protocol 2 begins."""
    raw = b"{}".ljust(640)
    assert raw.startswith(b"{")
    data = build_file(raw_header=raw, data=b"")
    assert data.startswith(b"\x80\x02")
    assert {failure.field for failure in refused(data)} == {"metadata"}


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 7])
def test_files_without_a_header_length(data: bytes) -> None:
    assert only(refused(data)).got == f"{len(data)} bytes"


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**63 - 1, 2**31, 8 * 2**20 + 1])
def test_an_absurd_header_length_allocates_nothing(length: int) -> None:
    failure = only(refused(length.to_bytes(8, "little") + b"{}"))
    assert failure.field == "header"
    assert str(length) in failure.got
    assert "8388608" in failure.allowed


def test_a_header_beyond_the_file_is_called_truncated() -> None:
    assert "truncated" in only(refused((1000).to_bytes(8, "little") + b"{}")).allowed


def test_every_truncation_is_refused_and_nothing_else_is_raised(sound_file: bytes) -> None:
    for size in range(len(sound_file)):
        with pytest.raises(AdapterFileError):
            read_adapter(sound_file[:size])


@pytest.mark.parametrize("cut", [1, 7, 8, 9])
def test_a_header_cut_within_its_padding_is_truncated(build_file: BuildFile, cut: int) -> None:
    """What is left is JSON; only the length tells."""
    data = build_file(raw_header=b"{}".ljust(640), data=b"")
    assert "this one is truncated" in only(refused(data[:-cut])).allowed


def test_a_truncated_upload_says_so_once(sound_file: bytes) -> None:
    assert "truncated" in only(refused(sound_file[:-1])).allowed


@pytest.mark.parametrize("extra", [b"\x00", b"PK\x03\x04 a second file"])
def test_bytes_after_the_last_tensor(sound_file: bytes, extra: bytes) -> None:
    assert f"{len(extra)} bytes after" in only(refused(sound_file + extra)).got


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]      ",
        b"null    ",
        b" {}     ",
        b"{}{}    ",
        b'{"a":NaN}',
        b'{"a":\xff\xfe}',
        b"\xef\xbb\xbf{}   ",
        b'{"a":1e999}',
        b'{"a":"\x01"}',
        b"{\x00}     ",
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' + b"9" * 5000 + b"}",
        "{}".encode("utf-16"),
    ],
)
def test_headers_that_are_not_json_objects(build_file: BuildFile, raw: bytes) -> None:
    assert "header" in {failure.field for failure in refused(build_file(raw_header=raw, data=b""))}


def test_deep_json_inside_an_entry_is_a_failure_like_any_other(build_file: BuildFile) -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    assert {f.field for f in refused(build_file({"encoder.0.x/a": deep}))} == {"encoder.0.x/a"}


def test_the_number_of_json_values_is_bounded(build_file: BuildFile) -> None:
    raw = b'{"a":[' + b"[]," * 300_000 + b"[]]}"
    assert "JSON values" in only(refused(build_file(raw_header=raw.ljust(len(raw) + (-len(raw) % 8))))).got


@pytest.mark.parametrize(
    "duplicate",
    [
        b'"head/weight": {"dtype":"F16","shape":[3,4],"data_offsets":[0,24]}, ',
        b'"head\\/weight": {"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}, ',
        b'"__metadata__": {"trunkline": "{}"}, ',
    ],
)
def test_duplicate_keys_at_the_top(build_file: BuildFile, duplicate: bytes) -> None:
    raw = build_file()[8:-60]
    raw = b"{" + duplicate + raw[1:].rstrip()
    failures = refused(build_file(raw_header=raw.ljust(len(raw) + (-len(raw) % 8))))
    assert "twice" in only(failures).got


def test_duplicates_without_end_are_not_listed_without_end(build_file: BuildFile) -> None:
    pairs = b",".join([b'"a":0'] * 2_000)
    raw = b"{" + b",".join(b'"%d":{%s}' % (index, pairs) for index in range(20)) + b"}"
    failures = refused(build_file(raw_header=raw.ljust(len(raw) + (-len(raw) % 8))))
    assert len(failures) == 1_001


def test_duplicate_keys_inside_a_tensor(build_file: BuildFile) -> None:
    raw = build_file()[8:-60].replace(b'"dtype": "F32"', b'"dtype": "U8", "dtype": "F32"').rstrip()
    failures = refused(build_file(raw_header=raw.ljust(len(raw) + (-len(raw) % 8))))
    assert [failure.got for failure in failures] == ["the key 'dtype' twice in one object"] * 2


@pytest.mark.parametrize(
    ("changes", "num_bytes", "got"),
    [
        (
            {"encoder.0.x/a": entry(offsets=[59, 75])},
            75,
            "an overlap between 'head/bias' and 'encoder.0.x/a'",
        ),
        ({"encoder.0.x/a": entry(offsets=[0, 16])}, 60, "an overlap"),
        ({"encoder.0.x/a": entry(offsets=[64, 80])}, 80, "a gap between 'head/bias' and 'encoder.0.x/a'"),
        ({"head/weight": entry("F16", [3, 4], [24, 48])}, 60, "24 unclaimed bytes before 'head/weight'"),
        (
            {"encoder.0.x/a": entry("F16", [1], [60, 62]), "encoder.0.x/b": entry(offsets=[62, 78])},
            78,
            "unaligned",
        ),
        ({"encoder.0.x/a": entry(offsets=[60, 72])}, 72, "12 bytes for F32 [4]"),
        ({"encoder.0.x/a": entry(offsets=[60, 80])}, 80, "20 bytes for F32 [4]"),
        ({"encoder.0.x/a": entry(offsets=[76, 60])}, 76, "data_offsets [76, 60]"),
        ({"encoder.0.x/a": entry(offsets=[-16, 0])}, 60, "data_offsets [-16, 0]"),
        ({"encoder.0.x/a": entry(offsets=[60.0, 76.0])}, 76, "data_offsets [60.0, 76.0]"),
        ({"encoder.0.x/a": entry(offsets=[60, 2**64])}, 76, "data_offsets"),
        ({"encoder.0.x/a": entry(offsets=[60, 10**4000])}, 76, "data_offsets"),
        ({"encoder.0.x/a": entry(offsets=[60])}, 76, "data_offsets [60]"),
        ({"encoder.0.x/a": entry(offsets=[False, True])}, 60, "data_offsets [False, True]"),
        ({"encoder.0.x/a": entry(offsets={"begin": 60})}, 76, "data_offsets {'begin': 60}"),
    ],
)
def test_offsets(build_file: BuildFile, changes: dict[str, Any], num_bytes: int, got: str) -> None:
    failures = refused(build_file(changes, data=bytes(num_bytes)))
    assert any(got in failure.got for failure in failures), [str(failure) for failure in failures]


@pytest.mark.parametrize(
    "dtype", ["BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "f32", "", None, 4, ["F32"]]
)
def test_dtypes(build_file: BuildFile, dtype: Any) -> None:
    failures = refused(build_file({"encoder.0.x/a": entry(dtype)}, data=bytes(76)))
    assert any(f.field == "encoder.0.x/a" and f.allowed == "F32 or F16" for f in failures)


@pytest.mark.parametrize(
    "shape",
    [
        [0],
        [4, 0],
        [-4],
        [4.0],
        [True] * 2,
        ["4"],
        [[4]],
        4,
        None,
        [1, 1, 1, 1, 4],
        [2**31],
        [2**62, 2**62],
        [1] * 9,
    ],
)
def test_shapes(build_file: BuildFile, shape: Any) -> None:
    failures = refused(build_file({"encoder.0.x/a": entry(shape=shape)}, data=bytes(76)))
    assert any(f.field == "encoder.0.x/a" and "shape" in f.got for f in failures)


@pytest.mark.parametrize(
    "value", [None, 1, "x", [], {}, {"dtype": "F32", "shape": [4]}, entry() | {"extra": 1}]
)
def test_entries_of_another_form(build_file: BuildFile, value: Any) -> None:
    header = json.loads(build_file()[8:-60]) | {"encoder.0.x/a": value}
    raw = json.dumps(header).encode()
    failures = refused(build_file(raw_header=raw.ljust(len(raw) + (-len(raw) % 8))))
    assert "encoder.0.x/a" in {failure.field for failure in failures}


@pytest.mark.parametrize(
    "name",
    [
        "weight",
        "encoder.0.attn_q",
        "encoder.0.attn_q/",
        "/scale",
        "encoder.0.Attn_q/scale",
        "encoder..attn_q/scale",
        "../../etc/passwd",
        "encoder.0.attn_q/scale/x",
        "encoder.0.attn_q/scale\n",
        "encoder 0/scale",
        "bert.encoder.layer.0.weight",
        "\u017fhared/x",
        "",
        "head/extra",
        "shared/" + "x" * 200,
    ],
)
def test_names_that_are_not_of_the_tap_form(build_file: BuildFile, name: str) -> None:
    failure = only(refused(build_file({name: entry()}, data=bytes(76))))
    assert len(failure.field) < 100
    assert "\n" not in failure.field


@pytest.mark.parametrize(
    "name",
    [
        "embed/scale",
        "shared/phm_rule",
        "encoder.3.attn_context/scale",
        "decoder.11.ffn_out/down.left",
        "cross.0.attn_q/shift",
        "encoder.embed/prompt",
        "encoder.final_norm/gain",
        "decoder.lm_head/shift",
        "said/direction",
        "weights/encoder.layer.0.output.dense.weight",
        "weights/encoder.block.0.layer.1.densereludense.wi_0.weight",
    ],
)
def test_names_of_the_tap_form(build_file: BuildFile, name: str) -> None:
    assert name in read_adapter(build_file({name: entry()}, data=bytes(76))).tensors


def test_a_scalar_and_a_tensor_of_four_dimensions_are_allowed(build_file: BuildFile) -> None:
    changes = {
        "shared/a": entry(shape=[], offsets=[60, 64]),
        "shared/b": entry(shape=[1] * 4, offsets=[64, 68]),
    }
    assert read_adapter(build_file(changes, data=bytes(68))).tensors["shared/a"].shape == ()


def test_limits_on_tensors_and_file(build_file: BuildFile) -> None:
    assert "at most 2 keys" in only(refused(build_file(), FileLimits(max_tensors=1))).allowed
    assert "at most 50 bytes" in only(refused(build_file(), FileLimits(max_file_bytes=50))).allowed
    assert "at most 40 bytes" in only(refused(build_file(), FileLimits(max_header_bytes=40))).allowed
    limits = FileLimits(max_rank=1)
    assert "head/weight" in {failure.field for failure in refused(build_file(), limits)}


@pytest.mark.parametrize(
    "metadata",
    [None, {}, [], "x", {"format": "pt"}, {"trunkline": 1}, {"trunkline": {"task": "x"}}],
)
def test_a_file_without_a_manifest(build_file: BuildFile, metadata: Any) -> None:
    failure = only(refused(build_file(metadata=metadata)))
    assert failure.field == "metadata"
    assert "'trunkline'" in failure.allowed


def test_other_metadata_keys_are_refused(build_file: BuildFile, manifest_dict: dict[str, Any]) -> None:
    metadata = {"trunkline": json.dumps(manifest_dict), "format": "pt"}
    assert "'format'" in only(refused(build_file(metadata=metadata))).got


def test_a_header_of_odd_length_is_refused(build_file: BuildFile) -> None:
    raw = build_file()[8:-60].rstrip()
    raw = raw.ljust(len(raw) + (-len(raw) % 8) + 1)
    assert "multiple of 8" in only(refused(build_file(raw_header=raw))).allowed


@pytest.mark.parametrize("padding", [b"\x00", b"\n", b"\t"])
def test_the_header_is_padded_with_spaces_only(build_file: BuildFile, padding: bytes) -> None:
    raw = build_file()[8:-60].rstrip()
    raw = raw.ljust(len(raw) + (-len(raw) % 8) + 8, padding)
    assert "header" in {failure.field for failure in refused(build_file(raw_header=raw))}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"head/weight": None, "head/bias": entry(shape=[3], offsets=[0, 12])}, {"head/weight"}),
        ({"head/bias": None, "encoder.0.x/a": entry(shape=[3], offsets=[48, 60])}, {"head/bias"}),
        ({"head/weight": entry(shape=[4, 3], offsets=[0, 48])}, {"head/weight"}),
        ({"head/weight": entry(shape=[12], offsets=[0, 48])}, {"head/weight"}),
        ({"head/bias": entry(shape=[3, 1], offsets=[48, 60])}, {"head/bias"}),
        ({"head/weight": entry(shape=[12, 1], offsets=[0, 48])}, {"head/weight"}),
    ],
)
def test_the_head_has_one_row_per_label(
    build_file: BuildFile, changes: dict[str, Any], fields: set[str]
) -> None:
    data = bytes(12 if changes["head/weight"] is None else 60) if "head/weight" in changes else bytes(60)
    failures = refused(build_file(changes, data=data))
    assert {failure.field for failure in failures} == fields


def test_a_text_to_text_has_no_head(build_file: BuildFile, manifest_dict: dict[str, Any]) -> None:
    manifest_dict["head"] |= {"kind": "text_to_text", "pooling": "none"}
    text = json.dumps(manifest_dict)
    failures = refused(build_file(manifest=text))
    assert {failure.field for failure in failures} == {"head/weight", "head/bias"}
    assert all("the pooling is none" in failure.allowed for failure in failures)
    headless = {"head/weight": None, "head/bias": None, "encoder.0.x/a": entry(offsets=[0, 16])}
    assert set(read_adapter(build_file(headless, data=bytes(16), manifest=text)).tensors) == {"encoder.0.x/a"}


def test_the_head_of_a_multiple_choice_has_one_row(
    build_file: BuildFile, manifest_dict: dict[str, Any]
) -> None:
    manifest_dict["head"] |= {"kind": "multiple_choice", "labels": ["choice"]}
    for probe in manifest_dict["probes"]:
        probe |= {"choices": ["a", "b", "c"]}
    text = json.dumps(manifest_dict)
    assert {f.field for f in refused(build_file(manifest=text))} == {"head/weight", "head/bias"}
    one_row = {
        "head/weight": entry(shape=[1, 4], offsets=[0, 16]),
        "head/bias": entry(shape=[1], offsets=[16, 20]),
    }
    assert read_adapter(build_file(one_row, data=bytes(20), manifest=text)).manifest.probes[0].choices


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(dtype, value) for dtype in ("<f4", "<f2") for value in (np.nan, np.inf, -np.inf)],
)
def test_values_that_are_not_finite_are_named_and_counted(
    build_file: BuildFile, dtype: str, value: float
) -> None:
    values = np.zeros(6, dtype)
    values[[1, 4]] = value
    raw = values.tobytes()
    changes = {"encoder.0.x/a": entry("F32" if dtype == "<f4" else "F16", [6], [60, 60 + len(raw)])}
    failure = only(refused(build_file(changes, data=bytes(60) + raw)))
    assert (failure.field, failure.got) == ("encoder.0.x/a", "2 values that are not finite")


def test_large_tensors_are_checked_to_their_last_value(build_file: BuildFile) -> None:
    num_items = 2**20 + 3
    values = np.zeros(num_items, "<f4")
    values[-1] = np.nan
    changes = {"shared/a": entry(shape=[num_items], offsets=[60, 60 + 4 * num_items])}
    assert only(refused(build_file(changes, data=bytes(60) + values.tobytes()))).field == "shared/a"


def test_the_list_of_failures_is_bounded(build_file: BuildFile) -> None:
    changes = {f"BAD {index}": entry() for index in range(5_000)}
    failures = refused(build_file(changes, data=bytes(76)))
    assert len(failures) == 1_001
    assert "more problems" in failures[-1].got


def test_a_disagreement_with_the_library_is_a_refusal(
    build_file: BuildFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(data: bytes) -> None:
        raise safetensors.SafetensorError("something we did not think of")

    monkeypatch.setattr(safetensors.torch, "load", load)
    assert "did not think of" in only(refused(build_file())).got


@pytest.mark.parametrize(
    ("metadata", "got"),
    [(None, "no manifest"), ({}, "no manifest"), ({"other": "x"}, "no manifest"), ([1], "[1]"), ("x", "'x'")],
)
def test_what_stands_for_a_manifest_is_told(build_file: BuildFile, metadata: Any, got: str) -> None:
    failures = [failure for failure in refused(build_file(metadata=metadata)) if failure.field == "metadata"]
    assert [failure.got for failure in failures] == [got]
