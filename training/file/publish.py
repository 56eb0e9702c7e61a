"""From a trained adapter to a file that is announced: fold, measure, probe, describe.

Numbers in the manifest come from the tensors as stored, not from the run. Writing and checking the file is
`announce.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from adapters_store.manifest import (
    BackboneRef,
    InputRef,
    Manifest,
    MethodRef,
    MetricsRef,
    Provenance,
    schema_version_of,
)
from modeling import Adapter, HeadSpec
from proof.candidate import head_of
from training.data.load import TaskData
from training.errors import DataError, PublishError
from training.file.announce import STORED_DTYPES, Verify, announce, code_version, size_caution
from training.file.probes import probes_of
from training.formats import Formatter, Scale
from training.loop.fit import Evaluation
from training.loop.passes import Answered, trained
from training.loop.progress import Progress
from training.loop.stages import Material
from training.report.calibrate import calibrate
from training.report.leaderboard import Leaderboard
from training.report.result import Announced, SeedOutcome, plain
from training.settings.config import Hyper, TrainConfig
from training.tasks import Logits, Task

_TEXT_FORM = "text_to_text"


@dataclass(frozen=True)
class TextForm:
    """What a text-to-text file keeps, in its provenance, of how sources and labels are made of rows.

    `names` are what the data calls the classes, in the order of the label strings; `scale` the classes of
    a number.
    """

    formatter: Formatter
    names: tuple[str, ...]
    scale: Scale | None

    def to_config(self) -> dict[str, Any]:
        """Plain JSON values, for the provenance."""
        scale = None if self.scale is None else asdict(self.scale)
        made, names = self.formatter.to_config(), list(self.names)
        shown = self.formatter.form()
        return {_TEXT_FORM: {"formatter": made, "names": names, "scale": scale, "source_form": shown}}

    @classmethod
    def from_config(cls, provenance: Mapping[str, Any]) -> "TextForm":
        """Out of a file's provenance. Raises DataError when it is not there or not whole."""
        try:
            stored = provenance[_TEXT_FORM]
            scale = None if stored["scale"] is None else Scale(**stored["scale"])
            return cls(Formatter.from_config(stored["formatter"]), tuple(stored["names"]), scale)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"the file does not say how its sources are made of rows (provenance.config.{_TEXT_FORM}: "
                f"{error!r}); train it again, or send finished sources to a server"
            ) from None


def publish(
    config: TrainConfig,
    hyper: Hyper,
    data: TaskData,
    material: Material,
    best: SeedOutcome,
    progress: Progress,
    verify: Verify,
    *,
    leaderboard: Leaderboard | None = None,
) -> tuple[Announced, dict[str, float]]:
    """Write the adapter of `best` to `config.out_path`; returns the file and the metrics of what it holds.

    The `leaderboard` of a search goes into its provenance.

    Raises:
        PublishError: the stored tensors or the fresh process disagree with the run; nothing is left at the
            path.
    """
    progress.begin("publish", 0)
    task = best.final.task
    calibration = calibrate(task, best.final.logits, data.validation.targets, config.abstain)
    spec = calibration.applied(task.spec(hyper.pooling))
    tensors = stored_tensors(best.adapter, task, config.file_dtype)
    answered = stored_answers(material, best.adapter, spec, tensors)
    recorded = measured_again(material, best) if best.on_all_rows else best.final
    values = _checked_values(task, recorded, answered, data, config.file_dtype)
    if best.on_all_rows:  # the rows that were held out are learnt by now: what counts is what was before
        values = {name: value for name, value in best.final.values.items() if math.isfinite(value)}
    manifest = _manifest(config, hyper, data, material, best, spec, values, answered.logits)
    if leaderboard is not None:
        manifest = _with_leaderboard(manifest, leaderboard)
    announced = announce(config.out_path, config.backbone, manifest, tensors, config.file_dtype, verify)
    progress.end("publish")
    for sentence in calibration.told():
        progress.note(sentence)
    progress.note(f"{announced.path}: {announced.size_bytes:,} bytes, {announced.num_probes} probes agree")
    if caution := size_caution(f"{announced.path} has", announced.size_bytes, config.file_dtype):
        progress.note(caution)
    return announced, values


def measured_again(material: Material, best: SeedOutcome) -> Evaluation:
    """The adapter as it is in memory, on the validation rows."""
    with best.adapter.attached(material.backbone):
        found, loss = material.measured(trained(material.backbone, best.adapter, material.validation))
    task = best.final.task
    values = task.scores(found, material.validation_targets)
    return Evaluation(values, values[task.metric.name], loss, found, task)


def stored_tensors(adapter: Adapter, task: Task, dtype: str) -> dict[str, Tensor]:
    """The adapter's tensors with the head in the data's units, rounded to what the file can hold; float32."""
    tensors = adapter.to_tensors()
    if adapter.head is not None:
        weight, bias = task.to_units(tensors["head/weight"], tensors["head/bias"])
        tensors.update({"head/weight": weight, "head/bias": bias})
    return {name: tensor.to(STORED_DTYPES[dtype]).float() for name, tensor in tensors.items()}


def stored_answers(
    material: Material, adapter: Adapter, spec: HeadSpec, tensors: dict[str, Tensor]
) -> Answered:
    """What a new adapter, built from `tensors` alone, answers to the validation rows."""
    again = Adapter.from_tensors(material.backbone, adapter.method, spec, tensors)
    with again.attached(material.backbone):
        return trained(material.backbone, again, material.validation)


def _checked_values(
    task: Task, recorded: Evaluation, answered: Answered, data: TaskData, dtype: str
) -> dict[str, float]:
    targets = data.validation.targets
    values = task.scores(task.found(answered.logits, answered.texts, targets, answered.embedded), targets)
    value, share = values[task.metric.name], 3 / len(data.validation)
    allowed = share + 1e-3 if dtype == "float32" else 0.02 + share
    if not abs(value - recorded.value) <= allowed * max(1.0, abs(recorded.value)):
        raise PublishError(
            f"the tensors as stored ({dtype}) give {task.metric.name} {value:.4f}, "
            f"the run recorded {recorded.value:.4f}; nothing was written (try float32)"
        )
    return {name: number for name, number in values.items() if math.isfinite(number)}


def _manifest(
    config: TrainConfig,
    hyper: Hyper,
    data: TaskData,
    material: Material,
    best: SeedOutcome,
    spec: HeadSpec,
    values: dict[str, float],
    logits: Logits,
) -> Manifest:
    backbone, method = material.backbone, best.adapter.method
    head = head_of(spec)
    return Manifest(
        schema_version=schema_version_of(head),
        task=config.task,
        description=config.description,
        created=now(),
        backbone=BackboneRef(
            family=backbone.family.name,
            name=backbone.name,
            config_digest=backbone.config_digest,
            weights_digest=backbone.weights_digest,
        ),
        method=MethodRef(name=method.name, config=method.config()),
        head=head,
        input=InputRef(fields=list(data.reading.fields), max_tokens=hyper.max_tokens),
        metrics=MetricsRef(
            split="validation", rows=len(data.validation), values=values, data_digest=data.digest
        ),
        provenance=Provenance(
            code_version=code_version(), config=_provenance(config, hyper, data), seed=best.seed
        ),
        probes=probes_of(data.validation, data.task, material.validation, logits),
    )


def _with_leaderboard(manifest: Manifest, leaderboard: Leaderboard) -> Manifest:
    before = manifest.provenance
    told = {**before.config, "leaderboard": plain(leaderboard)}
    return manifest.model_copy(update={"provenance": before.model_copy(update={"config": told})})


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _provenance(config: TrainConfig, hyper: Hyper, data: TaskData) -> dict[str, Any]:
    """What was asked for, what was used, and what `trunkline evaluate` needs to read rows the same way."""
    plain = {
        **config.public_dict(),
        **vars(hyper),
        "split_rule_used": data.split_rule,
        **data.card.to_config(),
    }
    if data.reading.formatter is None:
        return plain
    return plain | TextForm(data.reading.formatter, *data.task.string_form()).to_config()
