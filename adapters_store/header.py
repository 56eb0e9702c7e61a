"""The header of a safetensors file, read without trusting it; knows names, shapes and offsets, not values.

This runs before any other parser sees the bytes. It allocates nothing that the header merely announces,
and lists everything that is wrong instead of the first thing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise

from adapters_store.errors import show
from adapters_store.strict_json import parse_json
from failures import Failure

METADATA_KEY = "trunkline"
ITEM_BYTES = {"F32": 4, "F16": 2}

# What a server takes of an upload unless it is told otherwise (its setting max_adapter_bytes). It stands here
# because training, which tells of it in time, knows nothing of the service.
UPLOAD_LIMIT_BYTES = 64 * 2**20

_LENGTH_BYTES = 8
_ALIGNMENT_BYTES = 8
_MAX_DIM = 2**31 - 1
_MAX_OFFSET = 2**63 - 1
_PART = r"[a-z0-9][a-z0-9_-]*"
_NAME = re.compile(rf"{_PART}(?:\.{_PART})*/{_PART}(?:\.{_PART})*")
_HEAD_NAMES = ("head/weight", "head/bias")
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
_UPLOAD_AGAIN = "Upload the whole file again, or write it again."
_WRITE_AGAIN = "Write the file with Trunkline's own writer."
_CONVERT = "Export the adapter as .safetensors with `trunkline train`; other formats are never opened."
_MAGICS = (
    (b"PK\x03\x04", "a zip archive (torch.save writes these: a pickle inside a zip)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a NumPy file"),
)
_PICKLE_PROTOCOLS = range(2, 6)


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What a file may at most be. Sizes in bytes; `max_json_values` counts commas and brackets."""

    max_file_bytes: int = 512 * 2**20
    max_header_bytes: int = 8 * 2**20
    max_json_values: int = 500_000
    max_tensors: int = 10_000
    max_rank: int = 4
    max_name_chars: int = 128


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the header; `begin` and `end` are byte offsets from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What could be read: all names, the entries in order of `begin`, the manifest, where the data starts.

    An entry here has a known dtype, a shape and a range, but the range may still end beyond the file.
    """

    names: frozenset[str]
    entries: tuple[TensorEntry, ...]
    manifest_text: str | None
    data_start: int


def parse_header(data: bytes, limits: FileLimits) -> tuple[Header | None, list[Failure]]:
    """Reads the header of `data`. The header is None when not even its JSON could be read."""
    fatal = _file_failure(data, limits)
    if fatal is not None:
        return None, [fatal]
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    raw = data[_LENGTH_BYTES:start]
    max_keys = limits.max_tensors + 1  # the metadata
    value, failures = parse_json(raw, "header", max_values=limits.max_json_values, max_keys=max_keys)
    if not isinstance(value, dict) or not raw.startswith(b"{"):
        failures = failures or [Failure("header", show(value), "one JSON object", _WRITE_AGAIN)]
        return None, failures
    failures += _padding_failures(raw, start)
    text = _manifest_text(value.pop("__metadata__", None), failures)
    if text is None:  # not an adapter file: its tensors may be anything
        return Header(frozenset(value), (), None, start), failures
    entries = _entries(value, len(data) - start, limits, failures)
    return Header(frozenset(value), entries, text, start), failures


def field_of(name: str) -> str:
    """A tensor's name as the field of a failure: as it is when it has the form, else shown in quotes."""
    return name if len(name) <= FileLimits().max_name_chars and _NAME.fullmatch(name) else show(name)


def _file_failure(data: bytes, limits: FileLimits) -> Failure | None:
    if not data:
        return Failure("file", "0 bytes", "a .safetensors file", _UPLOAD_AGAIN)
    if len(data) > limits.max_file_bytes:
        got, allowed = f"{len(data)} bytes or more", f"at most {limits.max_file_bytes} bytes"
        return Failure("file", got, allowed, "Write the adapter in float16, or raise the limit.")
    kind = _foreign_kind(data)
    if kind is not None:
        return Failure("file", kind, "a .safetensors file", _CONVERT)
    return _length_failure(data, limits)


def _foreign_kind(data: bytes) -> str | None:
    """Names other formats by their magic; a real header has its `{` where a header length would be absurd."""
    if data[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{":
        return None
    if data[0] == 0x80 and len(data) > 1 and data[1] in _PICKLE_PROTOCOLS:
        return "a Python pickle, which can run code when opened"
    if data[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for magic, kind in _MAGICS if data.startswith(magic)), None)


def _length_failure(data: bytes, limits: FileLimits) -> Failure | None:
    if len(data) < _LENGTH_BYTES:
        return Failure("file", f"{len(data)} bytes", "at least 8 bytes of header length", _UPLOAD_AGAIN)
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > limits.max_header_bytes:
        allowed = f"at most {limits.max_header_bytes} bytes"
        return Failure("header", f"a header of {length} bytes", allowed, _WRITE_AGAIN)
    if _LENGTH_BYTES + length > len(data):
        got = f"a header of {length} bytes in a file of {len(data)} bytes"
        allowed = "a header that ends within the file (this one is truncated)"
        return Failure("header", got, allowed, _UPLOAD_AGAIN)
    return None


def _padding_failures(raw: bytes, start: int) -> list[Failure]:
    failures = []
    if start % _ALIGNMENT_BYTES:
        got, allowed = f"a header of {len(raw)} bytes", f"a multiple of {_ALIGNMENT_BYTES} bytes"
        failures.append(Failure("header", got, f"{allowed}, so that tensors are aligned", _WRITE_AGAIN))
    if not raw.rstrip(b" ").endswith(b"}"):
        failures.append(Failure("header", "bytes after the JSON object", "spaces only", _WRITE_AGAIN))
    return failures


def _manifest_text(metadata: object, failures: list[Failure]) -> str | None:
    where, allowed = "metadata", f"one key {METADATA_KEY!r} that holds the manifest as a string"
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        got = "no manifest" if metadata is None or isinstance(metadata, dict) else show(metadata)
        failures.append(Failure(where, got, allowed, "Train the adapter with `trunkline train`."))
        return None
    for key in metadata:
        if key != METADATA_KEY:
            failures.append(Failure(where, f"the key {show(key)}", allowed, "Remove that key."))
    text = metadata[METADATA_KEY]
    if isinstance(text, str):
        return text
    failures.append(Failure(where, show(text), allowed, _WRITE_AGAIN))
    return None


def _entries(
    tensors: dict[str, object], data_bytes: int, limits: FileLimits, failures: list[Failure]
) -> tuple[TensorEntry, ...]:
    failures += [failure for name in tensors if (failure := _name_failure(name, limits)) is not None]
    found = [_entry(name, value, limits, failures) for name, value in tensors.items()]
    entries = tuple(sorted((entry for entry in found if entry is not None), key=lambda entry: entry.begin))
    if len(entries) == len(found):  # where a range is unknown, gaps say nothing new
        failures += _layout_failures(entries, data_bytes)
    return entries


def _name_failure(name: str, limits: FileLimits) -> Failure | None:
    allowed = "<tap>/<parameter>, such as encoder.3.attn_context/scale, in lower case"
    if len(name) > limits.max_name_chars:
        allowed = f"at most {limits.max_name_chars} characters"
        return Failure(show(name), f"a name of {len(name)} characters", allowed, "Correct the name.")
    if _NAME.fullmatch(name) is None:
        return Failure(show(name), "a name of another form", allowed, "Correct the name.")
    if name.startswith("head/") and name not in _HEAD_NAMES:
        return Failure(name, "an unknown tensor of the head", " and ".join(_HEAD_NAMES), "Remove it.")
    return None


def _entry(name: str, value: object, limits: FileLimits, failures: list[Failure]) -> TensorEntry | None:
    """The entry if its range can be used at all; everything wrong with it goes to `failures`."""
    where = field_of(name)
    if not isinstance(value, dict) or set(value) != _ENTRY_KEYS:
        allowed = "an object with dtype, shape and data_offsets"
        failures.append(Failure(where, show(value), allowed, _WRITE_AGAIN))
        return None
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    wrong = [*_dtype_failures(where, dtype), *_shape_failures(where, shape, limits)]
    wrong += _offset_failures(where, offsets)
    failures += wrong
    if wrong:
        return None
    entry = TensorEntry(name, dtype, tuple(shape), *offsets)
    failures += _extent_failures(where, entry)
    return entry


def _dtype_failures(where: str, dtype: object) -> list[Failure]:
    if isinstance(dtype, str) and dtype in ITEM_BYTES:
        return []
    return [Failure(where, f"dtype {show(dtype)}", "F32 or F16", "Convert it to float32 or float16.")]


def _shape_failures(where: str, shape: object, limits: FileLimits) -> list[Failure]:
    got = f"shape {show(shape)}"
    if not isinstance(shape, list):
        return [Failure(where, got, "a list of integers", _WRITE_AGAIN)]
    if len(shape) > limits.max_rank:
        return [Failure(where, got, f"at most {limits.max_rank} dimensions", "Reshape the tensor.")]
    if all(type(dim) is int and 1 <= dim <= _MAX_DIM for dim in shape):  # a bool is an int, but not here
        return []
    return [Failure(where, got, f"integers from 1 to {_MAX_DIM}", "Leave empty tensors out.")]


def _offset_failures(where: str, offsets: object) -> list[Failure]:
    if isinstance(offsets, list) and [type(offset) for offset in offsets] == [int, int]:
        begin, end = offsets
        if 0 <= begin <= end <= _MAX_OFFSET:
            return []
    allowed = "[begin, end] with 0 <= begin <= end"
    return [Failure(where, f"data_offsets {show(offsets)}", allowed, _WRITE_AGAIN)]


def _extent_failures(where: str, entry: TensorEntry) -> list[Failure]:
    failures = []
    item_bytes = ITEM_BYTES[entry.dtype]
    num_bytes = math.prod(entry.shape) * item_bytes
    if entry.end - entry.begin != num_bytes:
        got = f"{entry.end - entry.begin} bytes for {entry.dtype} {list(entry.shape)}"
        failures.append(Failure(where, got, f"{num_bytes} bytes", _WRITE_AGAIN))
    if entry.begin % item_bytes:
        allowed = f"a multiple of {item_bytes}"
        failures.append(Failure(where, f"an unaligned begin at byte {entry.begin}", allowed, _WRITE_AGAIN))
    return failures


def _layout_failures(entries: tuple[TensorEntry, ...], data_bytes: int) -> list[Failure]:
    """Ranges must tile the data: each starts where the one before ended, and the last ends with the file."""
    failures = []
    if entries and entries[0].begin != 0:
        got = f"{entries[0].begin} unclaimed bytes before {show(entries[0].name)}"
        failures.append(Failure("data", got, "tensors without gaps", _WRITE_AGAIN))
    for left, right in pairwise(entries):
        if right.begin != left.end:
            word = "an overlap" if right.begin < left.end else "a gap"
            got = f"{word} between {show(left.name)} and {show(right.name)} at byte {right.begin}"
            failures.append(Failure("data", got, "tensors without gaps or overlaps", _WRITE_AGAIN))
    end = max((entry.end for entry in entries), default=0)
    if end > data_bytes:
        got, allowed = f"{data_bytes} bytes of tensors", f"{end} bytes (the file is truncated)"
        failures.append(Failure("data", got, allowed, _UPLOAD_AGAIN))
    if end < data_bytes:
        got = f"{data_bytes - end} bytes after the last tensor"
        failures.append(Failure("data", got, "nothing after the last tensor", _WRITE_AGAIN))
    return failures
