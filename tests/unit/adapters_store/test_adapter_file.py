"""Adapter files: what is written is read back, and writing is as strict as reading."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adapters_store import (
    AdapterFileError,
    FileLimits,
    Manifest,
    read_adapter,
    read_adapter_file,
    write_adapter,
    write_adapter_file,
)
from adapters_store.adapter_file import read_again
from proof.candidate import judge

Tensors = dict[str, torch.Tensor]


def fields(error: pytest.ExceptionInfo[AdapterFileError]) -> set[str]:
    return {failure.field for failure in error.value.failures}


def test_round_trip_keeps_manifest_tensors_digest_and_size(
    manifest: Manifest, tensors: Tensors, sound_file: bytes
) -> None:
    read = read_adapter(sound_file)
    assert read.manifest == manifest
    assert read.tensors.keys() == tensors.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in tensors.items())
    assert read.digest == "sha256:" + hashlib.sha256(sound_file).hexdigest()
    assert read.size_bytes == len(sound_file)


def test_equal_arguments_give_equal_bytes_whatever_the_order(manifest: Manifest, tensors: Tensors) -> None:
    backwards = dict(reversed(tensors.items()))
    assert write_adapter(manifest, tensors) == write_adapter(manifest, backwards)


def test_the_file_is_ordinary_safetensors(sound_file: bytes, tensors: Tensors) -> None:
    loaded = safetensors.torch.load(sound_file)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_float16_halves_the_data_and_reads_as_float32(manifest: Manifest, tensors: Tensors) -> None:
    data = write_adapter(manifest, tensors, dtype="float16")
    read = read_adapter(data)
    assert all(tensor.dtype == torch.float32 for tensor in read.tensors.values())
    assert all(torch.equal(read.tensors[name], tensor.half().float()) for name, tensor in tensors.items())
    num_items = sum(tensor.numel() for tensor in tensors.values())
    assert abs(len(write_adapter(manifest, tensors)) - len(data) - 2 * num_items) <= 8  # header padding


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_was_read_once_is_read_again_the_same(manifest: Manifest, tensors: Tensors, dtype: Any) -> None:
    data = write_adapter(manifest, tensors, dtype=dtype)
    first = read_adapter(data)
    outline, again = read_again(data)
    assert outline.model_dump() == {name: manifest.model_dump()[name] for name in type(outline).model_fields}
    assert again.keys() == first.tensors.keys()
    assert all(torch.equal(again[name], first.tensors[name]) for name in again)
    assert {tensor.dtype for tensor in again.values()} == {torch.float32}


def test_a_value_too_large_for_float16_is_refused_at_writing(manifest: Manifest, tensors: Tensors) -> None:
    tensors["head/bias"][0] = 1e6
    with pytest.raises(
        AdapterFileError, match=r"head/bias: got 1 values that are not finite.*float32"
    ) as error:
        write_adapter(manifest, tensors, dtype="float16")
    assert fields(error) == {"head/bias"}


def test_views_of_one_memory_and_gradients_are_written_as_plain_values(manifest: Manifest) -> None:
    bank = torch.ones(4, 4, requires_grad=True)
    tensors = {"encoder.0.attn_norm/gain": bank[0], "head/weight": bank[:3].t().t(), "head/bias": bank[0, :3]}
    assert read_adapter(write_adapter(manifest, tensors)).tensors["head/weight"].shape == (3, 4)


def test_writing_lists_every_failure(manifest: Manifest, tensors: Tensors) -> None:
    tensors["encoder.0.attn_context/scale"] = torch.ones(4, dtype=torch.int64)
    bad = manifest.model_copy(
        update={"method": manifest.method.model_copy(update={"config": {"x": object()}})}
    )
    with pytest.raises(AdapterFileError) as error:
        write_adapter(bad, tensors, dtype="bfloat16")  # type: ignore[arg-type]
    assert fields(error) == {"dtype", "encoder.0.attn_context/scale", "manifest"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_writing_refuses_numbers_json_has_no_word_for(
    manifest: Manifest, tensors: Tensors, value: float
) -> None:
    bad = manifest.model_copy(
        update={"provenance": manifest.provenance.model_copy(update={"config": {"lr": value}})}
    )
    with pytest.raises(AdapterFileError) as error:
        write_adapter(bad, tensors)
    assert fields(error) == {"manifest"}


def test_writing_refuses_what_reading_would(manifest: Manifest, tensors: Tensors) -> None:
    tensors["encoder.0.attn_norm/GAIN"] = torch.ones(4)
    tensors["head/bias"] = torch.ones(4)
    with pytest.raises(AdapterFileError) as error:
        write_adapter(manifest, tensors)
    assert fields(error) == {"'encoder.0.attn_norm/GAIN'", "head/bias"}


def test_a_file_on_disk_round_trips_and_replaces_the_old_one(
    tmp_path: Path, manifest: Manifest, tensors: Tensors, sound_file: bytes
) -> None:
    path = tmp_path / "intents.safetensors"
    path.write_bytes(b"old")
    digest = write_adapter_file(path, manifest, tensors)
    assert path.read_bytes() == sound_file
    assert read_adapter_file(path).digest == digest
    assert [entry.name for entry in tmp_path.iterdir()] == ["intents.safetensors"]


def test_a_refused_write_leaves_the_old_file(tmp_path: Path, manifest: Manifest, tensors: Tensors) -> None:
    path = tmp_path / "intents.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(AdapterFileError):
        write_adapter_file(path, manifest, {"head/bias": tensors["head/bias"]})
    assert path.read_bytes() == b"old"


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, sound_file: bytes) -> None:
    path = tmp_path / "large.safetensors"
    path.write_bytes(sound_file)
    with pytest.raises(AdapterFileError, match="at most 100 bytes"):
        read_adapter_file(path, limits=FileLimits(max_file_bytes=100))
    assert read_adapter_file(path, limits=FileLimits(max_file_bytes=len(sound_file))).size_bytes == len(
        sound_file
    )


def test_every_kind_of_failure_is_listed_at_once(build_file: Any, manifest_dict: dict[str, Any]) -> None:
    manifest_dict["task"] = "../etc"
    del manifest_dict["created"]
    manifest_dict["probes"][2]["logits"] = [1.0]
    data = bytearray(72)
    data[0:4] = b"\x00\x00\xc0\x7f"  # a NaN in head/weight
    broken = build_file(
        {
            "encoder.0.attn_q/Scale": {"dtype": "F32", "shape": [1], "data_offsets": [60, 64]},
            "encoder.0.attn_k/scale": {"dtype": "BF16", "shape": [4], "data_offsets": [64, 72]},
            "head/bias": {"dtype": "F32", "shape": [4], "data_offsets": [48, 60]},
        },
        data=bytes(data),
        manifest=json.dumps(manifest_dict),
    )
    with pytest.raises(AdapterFileError) as error:
        read_adapter(broken)
    assert fields(error) == {
        "manifest.task",
        "manifest.created",
        "manifest.probes.2.logits",
        "'encoder.0.attn_q/Scale'",
        "encoder.0.attn_k/scale",
        "head/bias",
        "head/weight",
    }
    assert all(f.field and f.got and f.allowed and f.remedy for f in error.value.failures)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ({"pooling": "none"}, {"manifest.head.pooling"}),
        ({"kind": "text_to_text"}, {"manifest.head.pooling", "head/weight", "head/bias"}),
        ({"kind": "text_to_text", "pooling": "none"}, {"head/weight", "head/bias"}),
        (
            {"labels": ["a", "b", "a"], "threshold": 0.5},
            {"manifest.head.labels.2", "manifest.head.threshold"},
        ),
    ],
)
def test_what_a_kind_refuses_is_listed_with_its_tensors(
    build_file: Any, manifest_dict: dict[str, Any], head: dict[str, Any], expected: set[str]
) -> None:
    manifest_dict["head"] |= head
    with pytest.raises(AdapterFileError) as error:
        read_adapter(build_file(manifest=json.dumps(manifest_dict)), judge=judge)
    assert fields(error) == expected


def test_importing_the_package_and_the_store_imports_no_torch() -> None:
    code = (
        "import sys, adapters_store, adapters_store.store, adapters_store.manifest\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'transformers', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert adapters_store.read_adapter is adapters_store.adapter_file.read_adapter\n"
        "assert 'torch' in sys.modules\n"
        "assert all(hasattr(adapters_store, name) for name in adapters_store.__all__)\n"
        "assert not hasattr(adapters_store, 'no_such_name')\n"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=150)
