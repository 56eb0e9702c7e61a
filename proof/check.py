"""Everything that an upload does to a file, on a model of its own, and nothing published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapters_store import FileLimits
from modeling import Backbone, BackboneError, ServedModel, load_backbone
from modeling.served import BARE
from proof.candidate import examine
from proof.errors import Refused
from proof.replay import TOLERANCES, ProbeReport, by_probe, compare, plan_probes, replay

_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found in a file that may be served."""

    task: str
    method: str
    kind: str
    labels: tuple[str, ...]
    digest: str
    size_bytes: int
    probes: ProbeReport


def check_file(data: bytes, backbone: Backbone, *, limits: FileLimits | None = None) -> CheckReport:
    """Read, build, replay. Raises Refused with every problem."""
    candidate = examine(data, backbone, limits=limits)
    model = ServedModel(backbone, fast=False)
    batches = plan_probes(
        [(candidate.probes, model.placement(model.install(candidate.packed)))],
        neighbours=(BARE,),
        max_batch_tokens=_BATCH_TOKENS,
        max_row_tokens=backbone.max_tokens,
    )
    logits = (one for batch in batches for one in replay(model, batch))
    report = compare(candidate, by_probe(candidate.probes, logits), TOLERANCES[backbone.dtype])
    manifest = candidate.manifest
    return CheckReport(
        task=manifest.task,
        method=manifest.method.name,
        kind=manifest.head.kind,
        labels=tuple(manifest.head.labels),
        digest=candidate.digest,
        size_bytes=candidate.size_bytes,
        probes=report,
    )


def report_or_reason(path: Path, backbone: str) -> CheckReport | str:
    """`check_file` of a path, on a backbone that is loaded for it; or what is wrong, in words."""
    try:
        return check_file(path.read_bytes(), load_backbone(backbone))
    except (OSError, BackboneError) as error:
        return str(error)
    except Refused as refused:
        return "\n".join(map(str, refused.failures))
