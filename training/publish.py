"""From a trained adapter to a file that is announced: fold, measure, probe, write, load again, compare.

The file is written under another name first and gets its own only after a fresh process has loaded it through
the service's loader and its probe logits agree. Numbers in the manifest come from the tensors as stored.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters_store.adapter_file import FileDtype, read_adapter_file, write_adapter_file
from adapters_store.errors import AdapterFileError
from adapters_store.manifest import (
    BackboneRef,
    HeadRef,
    InputRef,
    Manifest,
    MethodRef,
    MetricsRef,
    Probe,
    Provenance,
)
from modeling import Adapter, Backbone, HeadSpec, TextItem
from training.config import Hyper, TrainConfig
from training.data import TaskData
from training.encode import all_states
from training.errors import ConfigError, PublishError
from training.fit import Evaluation
from training.probes import choose_probes
from training.progress import Progress
from training.result import Announced, SeedOutcome
from training.stages import Material
from training.tasks import Logits, Task

PROBE_TOLERANCE = 1e-4
_CHECK_TIMEOUT_S = 600
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class Verified:
    """What the fresh process found: how many probes, and the largest difference from the stored logits."""

    digest: str
    num_probes: int
    max_difference: float


Verify = Callable[[Path, str], Verified]
"""`verify(file, backbone)` loads the file elsewhere and compares its probes. Raises PublishError."""


def publish(
    config: TrainConfig,
    hyper: Hyper,
    data: TaskData,
    material: Material,
    best: SeedOutcome,
    progress: Progress,
    verify: Verify,
) -> tuple[Announced, dict[str, float]]:
    """Write the adapter of `best` to `config.out_path`; returns the file and the metrics of what it holds.

    Raises:
        PublishError: the stored tensors or the fresh process disagree with the run; nothing is left at the
            path.
    """
    progress.begin("publish", 0)
    task = best.final.task
    spec = head_spec(task, hyper.pooling)
    tensors = stored_tensors(best.adapter, task, config.file_dtype)
    logits = stored_logits(material, best.adapter, spec, tensors)
    values = _checked_values(task, best.final, logits, data, config.file_dtype)
    manifest = _manifest(config, hyper, data, material, best, spec, values, _probes(data, material, logits))
    announced = _write_and_verify(config, material.backbone, manifest, tensors, verify)
    progress.end("publish")
    progress.note(f"{announced.path}: {announced.size_bytes:,} bytes, {announced.num_probes} probes agree")
    return announced, values


def check_writable(path: Path) -> None:
    """Find out before training whether the file can be written after it.

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


def head_spec(task: Task, pooling: str) -> HeadSpec:
    """The head as the file describes it."""
    low, high = task.value_range or (None, None)
    return HeadSpec(task.kind, task.labels, pooling, task.threshold, low, high)


def stored_tensors(adapter: Adapter, task: Task, dtype: str) -> dict[str, Tensor]:
    """The adapter's tensors with the head in the data's units, rounded to what the file can hold; float32."""
    tensors = adapter.to_tensors()
    weight, bias = task.to_units(tensors["head/weight"], tensors["head/bias"])
    tensors.update({"head/weight": weight, "head/bias": bias})
    return {name: tensor.to(_DTYPES[dtype]).float() for name, tensor in tensors.items()}


def stored_logits(material: Material, adapter: Adapter, spec: HeadSpec, tensors: dict[str, Tensor]) -> Logits:
    """Logits [N, L] of the validation rows by a new adapter built from `tensors` alone."""
    again = Adapter.from_tensors(material.backbone, adapter.method, spec, tensors)
    with again.attached(material.backbone), torch.no_grad():
        pooled = all_states(material.backbone, material.validation, spec.pooling)
        logits: Logits = again.head(pooled).float().cpu().numpy()
    return logits


def _checked_values(
    task: Task, recorded: Evaluation, logits: Logits, data: TaskData, dtype: str
) -> dict[str, float]:
    values = task.scores(logits, data.validation.targets)
    value = values[task.metric.name]
    rows = len(data.validation)
    allowed = 3 / rows + 1e-3 if dtype == "float32" else 0.02 + 3 / rows
    if not abs(value - recorded.value) <= allowed * max(1.0, abs(recorded.value)):
        raise PublishError(
            f"the tensors as stored ({dtype}) give {task.metric.name} {value:.4f}, "
            f"the run recorded {recorded.value:.4f}; nothing was written (try float32)"
        )
    return {name: number for name, number in values.items() if math.isfinite(number)}


def _probes(data: TaskData, material: Material, logits: Logits) -> list[Probe]:
    split, encoded = data.validation, material.validation.encoded
    texts = split.texts
    rows = choose_probes(
        [data.task.stratum(target) for target in split.targets],
        material.validation.lengths,
        [row.truncated for row in encoded],
        [sum(map(len, _parts(text))) for text in texts],
    )
    return [_probe(texts[row], [float(v) for v in logits[row]]) for row in rows]


def _probe(item: TextItem, logits: Sequence[float]) -> Probe:
    text, pair = (item, None) if isinstance(item, str) else item
    return Probe(text=text, text_pair=pair, logits=list(logits))


def _parts(item: TextItem) -> tuple[str, ...]:
    return (item,) if isinstance(item, str) else item


def _manifest(
    config: TrainConfig,
    hyper: Hyper,
    data: TaskData,
    material: Material,
    best: SeedOutcome,
    spec: HeadSpec,
    values: dict[str, float],
    probes: list[Probe],
) -> Manifest:
    backbone, method = material.backbone, best.adapter.method
    return Manifest(
        task=config.task,
        description=config.description,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        backbone=BackboneRef(
            family=backbone.family.name,
            name=backbone.name,
            config_digest=backbone.config_digest,
            weights_digest=backbone.weights_digest,
        ),
        method=MethodRef(name=method.name, config=method.config()),
        head=HeadRef.model_validate(
            {
                "kind": spec.kind,
                "labels": list(spec.labels),
                "pooling": spec.pooling,
                "threshold": spec.threshold,
                "low": spec.low,
                "high": spec.high,
            }
        ),
        input=InputRef(fields=list(data.fields), max_tokens=hyper.max_tokens),
        metrics=MetricsRef(
            split="validation", rows=len(data.validation), values=values, data_digest=data.digest
        ),
        provenance=Provenance(code_version=code_version(), config=_provenance(config, hyper), seed=best.seed),
        probes=probes,
    )


def _provenance(config: TrainConfig, hyper: Hyper) -> dict[str, Any]:
    used = {name: dict(v) if name == "method_config" else v for name, v in vars(hyper).items()}
    return {**config.public_dict(), **used}


def code_version() -> str:
    """The installed version of this program."""
    try:
        return f"trunkline {metadata.version('trunkline')}"
    except metadata.PackageNotFoundError:
        return "trunkline (not installed)"


def _write_and_verify(
    config: TrainConfig, backbone: Backbone, manifest: Manifest, tensors: dict[str, Tensor], verify: Verify
) -> Announced:
    path = config.out_path
    waiting = path.with_name(f".{path.name}.unverified")  # one name, so that a killed run leaves no litter
    dtype: FileDtype = "float16" if config.file_dtype == "float16" else "float32"
    try:
        digest = write_adapter_file(waiting, manifest, tensors, dtype=dtype)
        _same_tensors(waiting, tensors)
        verified = verify(waiting, config.backbone)
        _check_verified(path.name, verified, digest, len(manifest.probes))
        waiting.replace(path)
    except AdapterFileError as error:
        raise PublishError(f"{path.name} would be refused: {error}") from error
    finally:
        waiting.unlink(missing_ok=True)
    size = path.stat().st_size
    return Announced(str(path), digest, size, verified.num_probes, verified.max_difference)


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
