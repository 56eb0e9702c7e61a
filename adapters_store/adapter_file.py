"""One adapter as one .safetensors file: written canonically, read as if a stranger had sent it.

Knows tensors and the manifest beside them, not networks: which tensors a method needs is for `modeling`
to say. L labels, H hidden.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch

from adapters_store import durable
from adapters_store.blobs import digest_of
from adapters_store.errors import AdapterFileError, show
from adapters_store.header import METADATA_KEY, FileLimits, Header, TensorEntry, field_of, parse_header
from adapters_store.manifest import Judge, Manifest, Outline, no_judge, parse_manifest
from failures import Failure

FileDtype = Literal["float32", "float16"]

_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}
_TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16}
_NUMPY_DTYPES = {"F32": "<f4", "F16": "<f2"}
_LENGTH_BYTES = 8  # of the header, in front of it
_CHUNK_ITEMS = 2**20  # values looked at together: the check then needs a megabyte, whatever the tensor


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """What a sound file holds. Tensors are float32 on the CPU; `digest` is that of the whole file."""

    manifest: Manifest
    tensors: dict[str, torch.Tensor]
    digest: str
    size_bytes: int


def write_adapter(
    manifest: Manifest, tensors: Mapping[str, torch.Tensor], *, dtype: FileDtype = "float32"
) -> bytes:
    """The bytes of an adapter file; equal arguments give equal bytes.

    What it writes it reads back, so nothing is written that would be refused later.
    Raises AdapterFileError, with every failure.
    """
    data = _serialised(manifest, tensors, dtype)
    read_adapter(data)
    return data


def write_adapter_file(
    path: Path, manifest: Manifest, tensors: Mapping[str, torch.Tensor], *, dtype: FileDtype = "float32"
) -> str:
    """Writes an adapter file atomically and returns its digest; `path` is the old file or the whole new one.

    Raises AdapterFileError as write_adapter does, and OSError.
    """
    data = write_adapter(manifest, tensors, dtype=dtype)
    durable.replace(Path(path), data, Path(path).parent)
    return digest_of(data)


def read_adapter(data: bytes, *, limits: FileLimits | None = None, judge: Judge = no_judge) -> AdapterFile:
    """Reads the bytes of an adapter file that nobody vouches for; `judge` may find more.

    Raises AdapterFileError, whose `failures` are all that is wrong with the file and not the first thing.
    """
    limits = limits or FileLimits()
    header, failures = parse_header(data, limits)
    if header is None or header.manifest_text is None:
        raise AdapterFileError(failures)
    parsed = parse_manifest(header.manifest_text, max_values=limits.max_json_values, judge=judge)
    failures += parsed.failures
    if parsed.has_head:
        failures += _head_failures(header, parsed.num_labels)
    else:
        failures += _headless_failures(header)
    failures += _value_failures(data, header)
    if failures or parsed.manifest is None:
        raise AdapterFileError(failures)
    return AdapterFile(parsed.manifest, _tensors(data), digest_of(data), len(data))


def read_again(data: bytes) -> tuple[Outline, dict[str, torch.Tensor]]:
    """Outline and float32 tensors of bytes that `read_adapter` has passed before: they are not judged again.

    That they are those bytes, their digest has shown. The tensors share memory with a copy of the bytes.
    """
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json.loads(data[_LENGTH_BYTES:start])
    outline = Outline.model_validate_json(header.pop("__metadata__")[METADATA_KEY], strict=True)
    return outline, _views(data, start, header)


def _views(data: bytes, start: int, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """The tensors of a sound header, which lie one behind the other from `start` on, as float32."""
    ordered = sorted(entries.items(), key=lambda entry: entry[1]["data_offsets"])
    sizes = [entry["data_offsets"][1] - entry["data_offsets"][0] for _, entry in ordered]
    parts = torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).split_with_sizes(sizes)
    return {
        name: part.view(_TORCH_DTYPES[entry["dtype"]]).view(*entry["shape"]).to(torch.float32)
        for (name, entry), part in zip(ordered, parts, strict=True)
    }


def read_adapter_file(
    path: Path, *, limits: FileLimits | None = None, judge: Judge = no_judge
) -> AdapterFile:
    """As read_adapter, from a file, of which no more is read than the limit allows. Raises OSError too."""
    limits = limits or FileLimits()
    with Path(path).open("rb") as file:
        data = file.read(limits.max_file_bytes + 1)
    return read_adapter(data, limits=limits, judge=judge)


def _serialised(manifest: Manifest, tensors: Mapping[str, torch.Tensor], dtype: FileDtype) -> bytes:
    failures = _writable_failures(tensors, dtype)
    try:
        text = manifest.to_json()
    except (TypeError, ValueError, RecursionError) as error:
        remedy = "Keep configs to plain values."
        failures.append(Failure("manifest", show(str(error)), "plain JSON data", remedy))
    if failures:
        raise AdapterFileError(failures)
    stored = {name: _plain(tensor, _DTYPES[dtype]) for name, tensor in tensors.items()}
    return safetensors.torch.save(stored, metadata={METADATA_KEY: text})


def _plain(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A contiguous copy on the CPU; the library refuses tensors that share memory (views of a bank)."""
    return tensor.detach().to("cpu", dtype).contiguous().clone()


def _writable_failures(tensors: Mapping[str, torch.Tensor], dtype: str) -> list[Failure]:
    failures = []
    if dtype not in _DTYPES:
        failures.append(Failure("dtype", show(dtype), " or ".join(_DTYPES), "Choose one of these."))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            allowed = "a tensor of floating-point numbers"
            failures.append(Failure(name, str(tensor.dtype), allowed, "Convert it to float32."))
    return failures


def _head_failures(header: Header, num_labels: int | None) -> list[Failure]:
    """head/weight is [L, H] and head/bias [L], one row per label in the manifest's order."""
    shapes = {entry.name: entry.shape for entry in header.entries}
    rows = "L" if num_labels is None else str(num_labels)
    failures = []
    for name, rank, wanted in (("head/weight", 2, f"[{rows}, H]"), ("head/bias", 1, f"[{rows}]")):
        shape = shapes.get(name)
        allowed = f"shape {wanted}, one row per label of the manifest"
        if name not in header.names:
            failures.append(Failure(name, "nothing", allowed, "Add it: an adapter comes with its head."))
        elif shape is not None and (len(shape) != rank or num_labels not in (None, shape[0])):
            remedy = "Put the labels and the head of the same training together."
            failures.append(Failure(name, f"shape {list(shape)}", allowed, remedy))
    return failures


def _headless_failures(header: Header) -> list[Failure]:
    """A decoder answers, or embeddings are compared: head tensors would mean nothing."""
    allowed = "no tensor of a head: the pooling is none, or there are no labels"
    return [
        Failure(name, "a tensor", allowed, "Remove it.")
        for name in sorted(header.names)
        if name.startswith("head/")
    ]


def _value_failures(data: bytes, header: Header) -> list[Failure]:
    """One failure for each tensor with values that are not finite, also when other tensors are unreadable."""
    failures = []
    for entry in header.entries:
        within = header.data_start + entry.end <= len(data)
        num_bad = _num_non_finite(data, header.data_start, entry) if within else 0
        if num_bad:
            got = f"{num_bad} values that are not finite"
            remedy = "Train with a lower learning rate; in float16, write float32 instead."
            failures.append(Failure(field_of(entry.name), got, "finite numbers", remedy))
    return failures


def _num_non_finite(data: bytes, data_start: int, entry: TensorEntry) -> int:
    dtype = np.dtype(_NUMPY_DTYPES[entry.dtype])
    num_items = (entry.end - entry.begin) // dtype.itemsize
    values = np.frombuffer(data, dtype, num_items, data_start + entry.begin)
    return sum(
        int(np.count_nonzero(~np.isfinite(values[start : start + _CHUNK_ITEMS])))
        for start in range(0, num_items, _CHUNK_ITEMS)
    )


def _tensors(data: bytes) -> dict[str, torch.Tensor]:
    """The library's own reading of bytes that our reader has passed; if they disagree, it is refused."""
    try:
        loaded = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        failure = Failure("file", show(str(error)), "a file that safetensors reads", "Write the file again.")
        raise AdapterFileError([failure]) from error
    return {name: tensor.to(torch.float32) for name, tensor in loaded.items()}
