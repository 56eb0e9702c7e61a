"""Which layers a trained adapter needs least, what it scores without them, and the smaller file.

Layers are ranked by drift: how far their tensors moved from the values at which the adapter changes nothing,
as the mean square over each tensor's own numbers (||w - 1||^2 and ||b||^2 for Hadamard, gain and bias of the
norms against the frozen ones), summed over a layer. This is our reading of the Hadamard paper, which reports
that layers are redundant and not how it found them. Layers that are left out go back to the frozen model's
values; nothing is trained again.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adapters_store.adapter_file import AdapterFile
from adapters_store.manifest import Manifest, schema_version_of
from modeling import METHODS, Adapter, Backbone, HeadSpec, ServedModel, load_backbone
from modeling.sites import STACK_SITES
from proof.candidate import head_of
from proof.fresh import check_in_fresh_process
from training.data.card import Flags
from training.errors import ConfigError
from training.file.announce import STORED_DTYPES, Verify, announce, check_writable, code_version, size_caution
from training.file.evaluate import build_adapter, named_backbone, stored_file
from training.file.probes import probes_of
from training.file.publish import now
from training.file.scored import Scored, load_rows
from training.loop.device import pick_device
from training.loop.encode import Rows, encode_split
from training.loop.passes import served
from training.loop.progress import NullProgress, Progress
from training.report.calibrate import calibrate
from training.report.result import Announced, plain
from training.rows.examples import digest_of
from training.tasks import Logits

_NEUTRAL_OPS = ("affine", "norm")


@dataclass(frozen=True)
class LayerDrift:
    """How far one layer moved, over all stacks; `parameters` are its numbers in the file."""

    layer: int
    drift: float
    parameters: int


@dataclass(frozen=True)
class PrunedScore:
    """The adapter with some layers alone: what it costs and what it scores on the validation rows."""

    layers: tuple[int, ...]
    parameters: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class PruneResult:
    """Layers by drift (largest first), scores from all layers down to one, and the file that was written."""

    task: str
    method: str
    metric: str
    split: str
    drifts: tuple[LayerDrift, ...]
    scores: tuple[PrunedScore, ...]
    kept: tuple[int, ...]
    file: Announced
    picture: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: plain(value) for name, value in vars(self).items()}


def prune_file(
    path: Path,
    data: Path,
    *,
    keep: int | None = None,
    out: Path | None = None,
    report: Path | None = None,
    backbone: Backbone | None = None,
    backbone_name: str | None = None,
    device: str = "auto",
    flags: Flags | None = None,
    max_rows: int | None = None,
    progress: Progress | None = None,
    verify: Verify = check_in_fresh_process,
) -> PruneResult:
    """Score the adapter of `path` with ever fewer layers and write the one with `keep` layers to `out`.

    `keep` is two thirds of the layers when not given (8 of 12, as the paper's 0.022 %), `out` stands beside
    the file. `report` is a folder for a picture of score against parameters.

    Raises:
        ConfigError: a method without a known neutral value or without `layers`, layers that never moved, a
            `keep` out of range or one that would drop nothing unasked, a backbone that is not here.
        DataError: the file or the rows cannot be used. PublishError: the new file does not check.
    """
    progress = progress or NullProgress()
    stored = stored_file(path)
    manifest = stored.manifest
    target = out or path.with_name(f"{path.stem}.pruned{path.suffix}")
    check_writable(target)
    scored = load_rows(data, "validation", manifest, flags or Flags(), max_rows)
    name = backbone_name or (named_backbone(manifest) if backbone is None else manifest.backbone.name)
    backbone = backbone or load_backbone(name, device=pick_device(device))
    adapter = build_adapter(stored, backbone)
    drifts = layer_drifts(adapter, backbone, _file_dtype(stored))
    keep = _checked_keep(keep, drifts)
    limit = manifest.input.max_tokens
    scored = replace(scored, rows=scored.task.aligned(backbone, scored.rows))
    rows = encode_split(
        backbone, scored.rows, scored.task, limit, adapter.virtual_tokens, adapter.spec.pooling
    )
    runs = list(_runs(backbone, adapter, drifts, rows, scored, progress))
    score, chosen, recorded = runs[len(drifts) - keep]
    smaller = _manifest(stored, chosen, scored, rows, score.metrics, recorded)
    progress.begin("publish", 0)
    announced = announce(target, name, smaller, chosen.to_tensors(), _file_dtype(stored), verify)
    progress.end("publish")
    if caution := size_caution(f"{announced.path} has", announced.size_bytes, _file_dtype(stored)):
        progress.note(caution)
    picture = None if report is None else str(report / f"{manifest.task}-layers.png")
    result = PruneResult(
        task=manifest.task,
        method=manifest.method.name,
        metric=scored.task.metric.name,
        split=scored.split,
        drifts=drifts,
        scores=tuple(score for score, _, _ in runs),
        kept=score.layers,
        file=announced,
        picture=picture,
    )
    if picture is not None:
        draw_scores(Path(picture), result)
    return result


def layer_drifts(adapter: Adapter, backbone: Backbone, file_dtype: str = "float32") -> tuple[LayerDrift, ...]:
    """Every layer that the adapter acts in, largest drift first; among equal ones the upper layer first.

    Neutral values are rounded to `file_dtype` as the adapter's were, so that rounding is no drift.

    Raises:
        ConfigError: the method has no neutral value to measure from, or cannot leave layers out.
    """
    _check_prunable(adapter)
    fresh = Adapter.create(backbone, adapter.method, adapter.spec)
    drift: dict[int, float] = {}
    count: dict[int, int] = {}
    for tap, module in adapter.body.items():
        if tap.site in STACK_SITES:
            continue
        for moved, neutral in zip(module.parameters(), fresh.body[tap].parameters(), strict=True):
            start = neutral.detach().to(STORED_DTYPES[file_dtype]).float()
            change = (moved.detach() - start).square().mean()
            drift[tap.layer] = drift.get(tap.layer, 0.0) + float(change)
            count[tap.layer] = count.get(tap.layer, 0) + moved.numel()
    found = [LayerDrift(layer, drift[layer], count[layer]) for layer in drift]
    return tuple(sorted(found, key=lambda layer: (-layer.drift, -layer.layer)))


def with_layers(adapter: Adapter, backbone: Backbone, layers: tuple[int, ...]) -> Adapter:
    """The same adapter in some of its layers alone; the others are the frozen model's again."""
    config = {**adapter.method.config(), "layers": list(layers)}
    method = METHODS[adapter.method.name].from_config(config)
    tensors = adapter.to_tensors()
    names = Adapter.create(backbone, method, adapter.spec).to_tensors().keys()
    return Adapter.from_tensors(backbone, method, adapter.spec, {name: tensors[name] for name in names})


def draw_scores(path: Path, result: PruneResult) -> None:
    """Score against parameters, a point for every number of layers; the written file is marked."""
    from matplotlib.figure import Figure  # slow to import, and only a report needs it

    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axis = figure.subplots()
    counts = [score.parameters for score in result.scores]
    values = [score.metrics[result.metric] for score in result.scores]
    axis.plot(counts, values, color="tab:blue", marker="o", markersize=4)
    for score, count, value in zip(result.scores, counts, values, strict=True):
        axis.annotate(str(len(score.layers)), (count, value), textcoords="offset points", xytext=(0, 6))
        if len(score.layers) == len(result.kept):
            axis.plot([count], [value], color="tab:red", marker="o", ls="none", label="written")
    axis.set(xlabel="adapter parameters (layers above each point)", ylabel=result.metric)
    axis.set_title(f"{result.task}: {result.method}, layers kept by drift")
    axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def _check_prunable(adapter: Adapter) -> None:
    name = adapter.method.name
    if not adapter.body:
        raise ConfigError(f"method {name} acts in no layer: there is nothing to prune")
    ops = {module.op.name for module in adapter.body.values()}
    random = sorted(ops - set(_NEUTRAL_OPS))
    if random or adapter.shared:
        raise ConfigError(
            f"method {name}: layers are ranked by how far tensors moved from the values that change nothing, "
            f"and some of its tensors ({', '.join(random)}) start at random ones; only scales, shifts and "
            "norms can be pruned (hadamard, bitfit, ia3, ln_tuning)"
        )
    if "layers" not in adapter.method.config():
        raise ConfigError(f"method {name} has no option `layers`: it cannot leave layers out")


def _checked_keep(keep: int | None, drifts: tuple[LayerDrift, ...]) -> int:
    """Raises ConfigError unless layers moved, 1 <= keep <= their number, and the default drops one."""
    total = len(drifts)
    if not any(layer.drift for layer in drifts):
        raise ConfigError(
            "no layer of this adapter moved from the values that change nothing, so none can be ranked: "
            "train it first (stage two found nothing better than the head alone, or had no steps)"
        )
    if keep is None:
        keep = (2 * total + 2) // 3
        if keep == total:
            remedy = f"say how many to keep (--keep 1{f' to {total - 1}' if total > 2 else ''})"
            raise ConfigError(
                f"two thirds of {total} layers are {keep}: nothing would be dropped, so nothing is written; "
                + (remedy if total > 1 else "there is no smaller adapter")
            )
    if not 1 <= keep <= total:
        raise ConfigError(f"keep is {keep}; the adapter has {total} layers: allowed are 1 to {total}")
    return keep


def _runs(
    backbone: Backbone,
    adapter: Adapter,
    drifts: tuple[LayerDrift, ...],
    rows: Rows,
    scored: Scored,
    progress: Progress,
) -> Iterator[tuple[PrunedScore, Adapter, Logits]]:
    """For every number of layers, all first: the scores, the adapter, and the logits that probes record."""
    model, task, targets = ServedModel(backbone, fast=False), scored.task, scored.rows.targets
    progress.begin("prune", len(drifts))
    for number in range(len(drifts), 0, -1):
        layers = tuple(sorted(drift.layer for drift in drifts[:number]))
        smaller = with_layers(adapter, backbone, layers)
        found = served(model, smaller, rows)
        metrics = task.scores(task.found(found.logits, found.texts, targets, found.embedded), targets)
        progress.step(None)
        yield PrunedScore(layers, smaller.num_body_parameters, metrics), smaller, found.logits
    progress.end("prune")


def _manifest(
    stored: AdapterFile,
    chosen: Adapter,
    scored: Scored,
    rows: Rows,
    metrics: Mapping[str, float],
    recorded: Logits,
) -> Manifest:
    """The old manifest with the smaller method, what it scores, new probes, and where it comes from."""
    old, task = stored.manifest, scored.task
    head = head_of(_recalibrated(chosen.spec, scored, recorded))
    method = chosen.method.config()
    config = {**old.provenance.config, "method_config": method, "pruned_from": stored.digest}
    digest = digest_of([task.kind, old.input.fields, task.labels], (scored.baseline_rows, scored.rows))
    changes = {
        "schema_version": schema_version_of(head),
        "created": now(),
        "head": head.model_dump(mode="python"),
        "method": {"name": chosen.method.name, "config": method},
        "metrics": {
            "split": "validation",
            "rows": len(scored.rows),
            "values": {name: value for name, value in metrics.items() if math.isfinite(value)},
            "data_digest": digest,
        },
        "provenance": {"code_version": code_version(), "config": config, "seed": old.provenance.seed},
        "probes": [probe.model_dump(mode="python") for probe in probes_of(scored.rows, task, rows, recorded)],
    }
    return Manifest.model_validate(old.model_dump(mode="python") | changes)


def _recalibrated(spec: HeadSpec, scored: Scored, logits: Logits) -> HeadSpec:
    """What was fitted on the old file's scores is fitted anew on these; what has nothing stays without."""
    if spec.temperature is None and spec.abstain is None:
        return spec
    error = None if spec.abstain is None else spec.abstain.target_error
    return calibrate(scored.task, logits, scored.rows.targets, error).applied(spec)


def _file_dtype(stored: AdapterFile) -> str:
    """The number format of the old file: the reader gives float32 of both."""
    halves = all(torch.equal(tensor, tensor.half().float()) for tensor in stored.tensors.values())
    return "float16" if halves else "float32"
