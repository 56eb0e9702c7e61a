"""An adapter file on its way to its name: written under another, loaded again elsewhere, compared, renamed.

It gets its own name only after a fresh process has loaded it through the service's loader and its probe
logits agree.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from adapters_store.adapter_file import FileDtype, read_adapter_file, write_adapter_file
from adapters_store.errors import AdapterFileError
from adapters_store.manifest import Manifest
from training.errors import ConfigError, PublishError
from training.result import Announced

_CHECK_TIMEOUT_S = 600


@dataclass(frozen=True)
class Verified:
    """What the fresh process found: how many probes, and the largest difference from the stored logits."""

    digest: str
    num_probes: int
    max_difference: float


Verify = Callable[[Path, str], Verified]
"""`verify(file, backbone)` loads the file elsewhere and compares its probes. Raises PublishError."""


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
        verified = verify(waiting, backbone)
        _check_verified(path.name, verified, digest, len(manifest.probes))
        waiting.replace(path)
    except AdapterFileError as error:
        raise PublishError(f"{path.name} would be refused: {error}") from error
    finally:
        waiting.unlink(missing_ok=True)
    size = path.stat().st_size
    return Announced(str(path), digest, size, verified.num_probes, verified.max_difference)


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


def verify_in_fresh_process(path: Path, backbone: str) -> Verified:
    """Load `path` in a new Python process through the service's own loader and compare its probes.

    Raises:
        PublishError: the process refuses the file, or a probe differs by more than the tolerance.
    """
    command = [sys.executable, "-m", "service", "check", str(path), "--backbone", backbone]
    roots = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, roots))}
    try:
        done = subprocess.run(  # noqa: S603 - our own program, no shell
            command, capture_output=True, text=True, timeout=_CHECK_TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise PublishError(
            f"the check of {path.name} took over {_CHECK_TIMEOUT_S} s; nothing was announced"
        ) from None
    return _read_check(path, done.returncode, done.stdout, done.stderr)


def _check_verified(name: str, verified: Verified, digest: str, num_probes: int) -> None:
    if verified.digest != digest:
        raise PublishError(f"{name}: the fresh process read {verified.digest}, written was {digest}")
    if verified.num_probes != num_probes:
        raise PublishError(f"{name}: {verified.num_probes} of {num_probes} probes were replayed")


def _same_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    stored = read_adapter_file(path).tensors
    different = sorted(name for name in tensors if not torch.equal(stored[name], tensors[name]))
    if different or set(stored) != set(tensors):
        raise PublishError(
            f"{path.name} does not hold what was trained: {', '.join(different) or 'other tensors'}"
        )


def _read_check(path: Path, code: int, output: str, errors: str) -> Verified:
    try:
        report = json.loads(output)
        probes = report["probes"]
        verified = Verified(str(report["digest"]), int(probes["count"]), float(probes["max_difference"]))
    except (ValueError, KeyError, TypeError):
        tail = (output + errors).strip()[-800:]
        raise PublishError(
            f"the check of {path.name} ended with status {code}: {tail or 'no output'}"
        ) from None
    if code != 0:
        raise PublishError(f"{path.name} was refused in a fresh process: {json.dumps(report)[:2000]}")
    return verified
