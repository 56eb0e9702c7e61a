"""An adapter file on its way to its name: written under another, loaded again elsewhere, compared, renamed.

It gets its own name only after a fresh process has read it (`proof.fresh`) and its probe logits agree.
"""

import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from adapters_store.adapter_file import FileDtype, read_adapter_file, write_adapter_file
from adapters_store.errors import AdapterFileError
from adapters_store.header import UPLOAD_LIMIT_BYTES, FileLimits
from adapters_store.manifest import Manifest
from modeling import Adapter
from proof.check import CheckReport
from proof.errors import CheckFailed
from training.errors import ConfigError, PublishError
from training.report.result import Announced

STORED_DTYPES = {"float32": torch.float32, "float16": torch.float16}
Verify = Callable[[Path, str], CheckReport]
"""`verify(file, backbone)` loads the file elsewhere and replays its probes. Raises CheckFailed."""


def announce(
    path: Path, backbone: str, manifest: Manifest, tensors: dict[str, Tensor], dtype: str, verify: Verify
) -> Announced:
    """Write the file, have it checked, and give it its name; nothing is left at `path` when a check fails.

    `backbone` is what the fresh process loads, `dtype` the number format of the file.

    Raises:
        PublishError: the file would be refused, or does not hold or answer what was trained.
    """
    waiting = path.with_name(f".{path.name}.unverified")  # one name, so that a killed run leaves no litter
    file_dtype: FileDtype = "float16" if dtype == "float16" else "float32"
    try:
        digest = write_adapter_file(waiting, manifest, tensors, dtype=file_dtype)
        _same_tensors(waiting, tensors)
        report = verify(waiting, backbone)
        _check_report(path.name, report, digest, len(manifest.probes))
        waiting.replace(path)
    except AdapterFileError as error:
        raise PublishError(f"{path.name} would be refused: {error}") from error
    except CheckFailed as error:
        raise PublishError(str(error)) from error
    finally:
        waiting.unlink(missing_ok=True)
    size = path.stat().st_size
    return Announced(str(path), digest, size, report.probes.count, report.probes.max_difference)


def adapter_caution(adapter: Adapter, dtype: str) -> str | None:
    """`size_caution` of a file that is not written yet."""
    num_bytes = (adapter.num_body_parameters + adapter.num_head_parameters) * STORED_DTYPES[dtype].itemsize
    return size_caution("the file will have about", num_bytes, dtype)


def size_caution(what: str, num_bytes: int, dtype: str) -> str | None:
    """What a server must be told before it takes a file of this size; None if it takes it as it is.

    Raises:
        ConfigError: nothing could read it back. Before training, so that no work is lost.
    """
    limits = FileLimits()
    most = limits.max_file_bytes - limits.max_header_bytes
    halved = "--file-dtype float16 halves it" if dtype == "float32" else "a method with fewer parameters fits"
    if num_bytes > most:
        raise ConfigError(f"{what} {num_bytes:,} bytes; an adapter file holds at most {most:,}: {halved}")
    if num_bytes <= UPLOAD_LIMIT_BYTES:
        return None
    enough = (num_bytes // 2**20 + 2) * 2**20
    return (
        f"{what} {num_bytes:,} bytes; a server takes {UPLOAD_LIMIT_BYTES:,} unless it is started with "
        f"--max-adapter-bytes {enough} (TRUNKLINE_MAX_ADAPTER_BYTES); {halved}"
    )


def check_writable(path: Path) -> None:
    """Find out before the work whether the file can be written after it.

    Raises:
        ConfigError: `path` is a folder, or its folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"out is {path}: its folder cannot be made ({error.strerror}); choose another"
        ) from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"out is {path}: not a file that can be written; choose another")


def code_version() -> str:
    """The installed version of this program."""
    try:
        return f"trunkline {metadata.version('trunkline')}"
    except metadata.PackageNotFoundError:
        return "trunkline (not installed)"


def _check_report(name: str, report: CheckReport, digest: str, num_probes: int) -> None:
    if report.digest != digest:
        raise PublishError(f"{name}: the fresh process read {report.digest}, written was {digest}")
    if report.probes.count != num_probes:
        raise PublishError(f"{name}: {report.probes.count} of {num_probes} probes were replayed")


def _same_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    stored = read_adapter_file(path).tensors
    different = sorted(name for name in tensors if not torch.equal(stored[name], tensors[name]))
    if different or set(stored) != set(tensors):
        raise PublishError(
            f"{path.name} does not hold what was trained: {', '.join(different) or 'other tensors'}"
        )
