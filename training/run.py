"""One training run, read top to bottom: settings and data in, one checked adapter file out.

The only composition root of this package: it reads the configuration and builds objects;
everything below takes plain values.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from failures import Failure
from modeling import (
    METHODS,
    Adapter,
    AdapterError,
    Backbone,
    Method,
    MethodError,
    UnknownNameError,
    Wanted,
    load_backbone,
)
from proof.fresh import check_in_fresh_process
from training.data.load import TaskData, load_data
from training.errors import ConfigError
from training.file.announce import Verify, adapter_caution, check_writable, code_version
from training.file.publish import publish
from training.loop.class_weights import class_weights
from training.loop.device import pick_device
from training.loop.encode import encode_split
from training.loop.fit import StagePlan, StageResult, fit
from training.loop.journal import RESUMED, FileJournal, Journal, NoJournal
from training.loop.precision import RoundedProducts, chosen, products_of
from training.loop.prefix import Below
from training.loop.progress import NullProgress, Progress
from training.loop.stages import (
    Features,
    Material,
    Scaling,
    adapter_learner,
    frozen_features,
    head_learner,
    room_for,
)
from training.report.cautions import cautions_of, warmup_caution
from training.report.result import SeedOutcome, TrainResult, pick_best
from training.report.write import write_report
from training.settings.checks import HEAD, MIN_TOKENS, TEXT_TO_TEXT
from training.settings.config import Hyper, Situation, TrainConfig, resolve
from training.tasks import Target, Task


def train(
    config: TrainConfig,
    *,
    progress: Progress | None = None,
    backbone: Backbone | None = None,
    write_file: bool = True,
    verify: Verify = check_in_fresh_process,
) -> TrainResult:
    """Train one task and write its adapter file.

    `backbone` may be given when it is loaded already. `write_file=False` stops before publishing
    (benchmarks).

    Raises:
        ConfigError, DataError: before anything is trained.
        TrainingFailedError: the run itself went wrong.
        PublishError: the written file does not give the same answers in a fresh process; nothing is
            announced.
    """
    started = time.monotonic()
    progress = progress or NullProgress()
    if write_file:
        check_writable(config.out_path)
    method = build_method(config)
    progress.begin("data", 0)
    data = load_data(config)
    data.page.tell(progress)
    backbone = backbone or load_backbone(config.backbone, device=pick_device(config.device))
    config = replace(config, precision=chosen(config.precision, backbone.device))
    check_room(method, backbone)
    hyper = settle(config, data, backbone, virtual=method.virtual_tokens)
    data = data.on(backbone)
    material, notes = prepare(config, hyper, data, backbone, virtual=method.virtual_tokens)
    progress.end("data")
    for note in notes[len(data.notes) :]:
        progress.note(note)
    run = _Run(config, hyper, method, data, material, progress, write_file)
    run.products = products_of(config.precision, backbone.model, backbone.device)
    outcomes = [run.one_seed(seed) for seed in config.all_seeds()]
    best = pick_best(outcomes)
    result = _result(config, hyper, data, material, outcomes, best, notes, run.warmup_caution)
    for warning in result.warnings:
        progress.note(warning)
    if write_file:
        announced, values = publish(config, hyper, data, material, best, progress, verify)
        result = replace(result, file=announced, metrics=values)  # of the tensors as the file holds them
        run.forget_journals()
    result = replace(result, seconds=time.monotonic() - started)
    if config.report is not None:
        write_report(Path(config.report), config, data, result)
    return result


@dataclass
class _Run:
    """What the seeds of one run share: settings, material, and features once they are needed."""

    config: TrainConfig
    hyper: Hyper
    method: Method
    data: TaskData
    material: Material
    progress: Progress
    keep_journal: bool
    features: Features | None = None
    below: Below | None = None
    products: RoundedProducts | None = None
    warmup_caution: str | None = None

    def one_seed(self, seed: int) -> SeedOutcome:
        """Both stages with one seed."""
        try:
            adapter = Adapter.create(self.material.backbone, self.method, self.material.spec, seed=seed)
        except AdapterError as error:
            found = "; ".join(_sentence(self.config.method, failure) for failure in error.failures)
            raise ConfigError(f"{self.config.method} on {self.material.backbone.name}: {found}") from error
        if adapter.head is None and not adapter.num_body_parameters:
            other = f", or --form {HEAD}" if self.config.form == TEXT_TO_TEXT else ""
            found = f"{self.config.method} trains a head alone, and {self.data.task.kind} has none"
            raise ConfigError(f"nothing to train: {found}; choose another method{other}")
        has_stage_two = self.hyper.epochs and adapter.num_body_parameters
        if not (has_stage_two or (self.hyper.head_epochs and adapter.head is not None)):
            found = f"{self.config.method} with these epochs"
            raise ConfigError(f"nothing to train: {found}; raise head_epochs or epochs")
        caution = adapter_caution(adapter, self.config.file_dtype) if self.keep_journal else None
        if caution is not None and seed == self.config.seed:
            self.progress.note(caution)
        plan = self._adapter_plan(adapter, seed)  # before anything is trained: it can be refused
        journal = self._journal(seed)
        if self.below is None and plan is not None:  # the same for all seeds
            self.below = room_for(self.material, adapter, self.progress, rounded=self.products is not None)
        head, body = self._head_stage(adapter, seed, journal), None
        if plan is not None:  # stage two: adapter and norms, the head with them or not
            with adapter.attached(self.material.backbone):
                learner = adapter_learner(
                    self.material, adapter, self.hyper, seed, below=self.below, products=self.products
                )
                body = fit(plan, learner, self.progress, journal)
        return SeedOutcome(seed, adapter, head, body)

    def _head_stage(self, adapter: Adapter, seed: int, journal: Journal) -> StageResult | None:
        """Stage one: the classifier alone on the frozen backbone; its features are computed once per run."""
        if self.hyper.head_epochs == 0 or adapter.head is None:
            return None
        if self.features is None:
            self.features = frozen_features(self.material, self.progress, self.below, self.products)
        material, progress = self.material, self.progress
        return train_head(material, self.features, adapter.head, self.hyper, seed, progress, journal)

    def _adapter_plan(self, adapter: Adapter, seed: int) -> StagePlan | None:
        """How long stage two lasts. A method without a body has none."""
        if adapter.num_body_parameters == 0 or self.hyper.epochs == 0:
            return None
        num_batches = len(adapter_learner(self.material, adapter, self.hyper, seed).batches(1))
        plan = stage_plan("adapter", self.hyper, num_batches)
        self.warmup_caution = warmup_caution(self.config, self.hyper, plan, num_batches)
        return plan

    def _journal(self, seed: int) -> Journal:
        if not self.keep_journal:
            return NoJournal()
        journal = FileJournal(self._journal_path(seed), self._fingerprint(seed), resume=self.config.resume)
        if journal.found is not None:
            state = "resumed from" if journal.found == RESUMED else f"not used ({journal.found}):"
            self.progress.note(f"{state} {journal.path.name}")
        return journal

    def _journal_path(self, seed: int) -> Path:
        out = self.config.out_path
        return out.with_name(out.name + (".resume" if self.config.seeds == 1 else f".{seed}.resume"))

    def _fingerprint(self, seed: int) -> str:
        """Names what decides the numbers of one seed: settings, data, backbone, versions."""
        settings = self.config.with_seed(seed).to_dict()
        for name in ("data", "out", "report", "description", "resume", "file_dtype", "backbone"):
            settings.pop(name)
        settings |= {name: str(value) for name, value in vars(self.hyper).items()}
        backbone, weights = self.material.backbone, self.material.wanted.weights
        parts = [
            settings,
            self.data.digest,
            str(self.data.task.metric),
            None if weights is None else weights.tolist(),
            backbone.weights_digest,
            str(backbone.device),
            torch.__version__,
            code_version(),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def forget_journals(self) -> None:
        """The file is announced: nothing is left to resume."""
        for seed in self.config.all_seeds():
            self._journal_path(seed).unlink(missing_ok=True)


def build_method(config: TrainConfig) -> Method:
    """The configured method.

    Raises:
        ConfigError: an unknown method, or a setting it does not have; both with what is allowed.
    """
    try:
        return METHODS[config.method].from_config(dict(config.method_config))
    except (MethodError, UnknownNameError) as error:
        raise ConfigError(str(error)) from error


def _sentence(method: str, failure: Failure) -> str:
    """What is wrong with an adapter that was not read from a file: of options, the method's own words."""
    own = failure.field.startswith("method.config")
    return failure.got.removeprefix(f"method {method}: ") if own else str(failure)


def check_room(method: Method, backbone: Backbone) -> None:
    """Virtual tokens must leave room for a text.

    Raises:
        ConfigError: they do not; with the option, its limit and what to do.
    """
    most = backbone.max_tokens - MIN_TOKENS
    if method.virtual_tokens <= most:
        return
    named = [name for name, value in method.config().items() if value == method.virtual_tokens]
    option = named[0] if named else "virtual_tokens"
    allowed = f"allowed: 1 to {most}; lower it (--method-config {option}=...)" if most >= 1 else "no room"
    raise ConfigError(
        f"method {method.name}: {option} is {method.virtual_tokens}; {backbone.name} has "
        f"{backbone.max_tokens} positions, of which a text needs at least {MIN_TOKENS}: {allowed}"
    )


def settle(config: TrainConfig, data: TaskData, backbone: Backbone, *, virtual: int = 0) -> Hyper:
    """All numbers of the run, now that data and backbone are known."""
    situation = Situation(
        official=data.official,
        num_train=len(data.train),
        subsampled=config.max_train_rows is not None,
        hidden_size=backbone.hidden_size,
        positions=backbone.max_tokens,
        virtual_tokens=virtual,
        poolings=data.task.poolings(backbone),
    )
    return resolve(config, situation)


def stage_plan(name: str, hyper: Hyper, steps_per_epoch: int) -> StagePlan:
    """How long a stage that runs through the backbone lasts."""
    epochs = hyper.epochs_for(steps_per_epoch)
    warmup = hyper.warmup_for(epochs * steps_per_epoch)
    return StagePlan(name, epochs, warmup, hyper.patience, hyper.evaluate_every(steps_per_epoch))


def prepare(
    config: TrainConfig, hyper: Hyper, data: TaskData, backbone: Backbone, *, virtual: int = 0
) -> tuple[Material, list[str]]:
    """Tokenise both splits and stack the targets; notes for a person.

    Raises:
        ConfigError: form, pooling or token limit are not the backbone's, or class weights do not fit.
    """
    _check_form(config, hyper, data.task, backbone)
    train_rows, validation_rows = (
        encode_split(backbone, split, data.task, hyper.max_tokens, virtual, hyper.pooling)
        for split in (data.train, data.validation)
    )
    weights = class_weights(config.class_weights, data.task, data.train.targets)
    notes = [*data.notes, *data.task.doubts(data.train)]
    if train_rows.num_truncated:
        notes.append(
            f"{train_rows.num_truncated} of {len(data.train)} train rows are longer than {hyper.max_tokens} "
            f"tokens and are cut; {backbone.name} takes up to {backbone.max_tokens} (max_tokens)"
        )
    weighed = None if weights is None else torch.tensor(weights, device=backbone.device)
    material = Material(
        backbone=backbone,
        task=data.task,
        spec=data.task.spec(hyper.pooling),
        train=train_rows,
        validation=validation_rows,
        wanted=_wanted(data.task, data.train.targets, weighed, backbone),
        validation_wanted=_wanted(data.task, data.validation.targets, weighed, backbone),
        validation_targets=data.validation.targets,
    )
    return material, notes


def _wanted(
    task: Task, targets: Sequence[Target], weights: torch.Tensor | None, backbone: Backbone
) -> Wanted:
    """On the backbone's device; each different string is made ids once."""
    strings = task.strings(targets)
    different = list(dict.fromkeys(strings))
    ids = dict(zip(different, backbone.label_ids(different), strict=True)) if strings else {}
    return Wanted(task.stack(targets).to(backbone.device), weights, [ids[string] for string in strings])


def _check_form(config: TrainConfig, hyper: Hyper, task: Task, backbone: Backbone) -> None:
    """A head needs a pooling of the backbone's, text-to-text a decoder and strings that it tells apart."""
    if config.form != TEXT_TO_TEXT:
        if hyper.pooling not in task.poolings(backbone):
            known = ", ".join(task.poolings(backbone))
            raise ConfigError(f"pooling is {hyper.pooling!r}; {task.kind} on {backbone.name} has {known}")
        return
    if not backbone.is_encoder_decoder:
        raise ConfigError(
            f"--form {TEXT_TO_TEXT} needs an encoder-decoder (T5 or BART); {backbone.name} is an encoder: "
            "choose another backbone, or train a head"
        )
    ids = [tuple(found) for found in backbone.label_ids(task.labels)]
    same = next((i for i, found in enumerate(ids) if found in ids[:i]), None)
    if same is not None:
        first = task.labels[ids.index(ids[same])]
        raise ConfigError(
            f"the label strings {first!r} and {task.labels[same]!r} are the same tokens to {backbone.name}; "
            "write them otherwise (--targets, --label-names)"
        )


def train_head(
    material: Material,
    features: Features,
    head: nn.Linear,
    hyper: Hyper,
    seed: int,
    progress: Progress,
    journal: Journal,
) -> StageResult:
    """Stage one on its own: `head` [H -> L] is left in its best state."""
    scaling = Scaling.of(features.train.values)
    scaled = nn.Linear(head.in_features, head.out_features, device=features.train.values.device)
    learner = head_learner(material, features, scaled, scaling, hyper, seed)
    plan = StagePlan("head", hyper.head_epochs, hyper.warmup, hyper.patience)
    result = fit(plan, learner, progress, journal)
    scaling.fold(scaled, head)
    return result


def _result(
    config: TrainConfig,
    hyper: Hyper,
    data: TaskData,
    material: Material,
    outcomes: Sequence[SeedOutcome],
    best: SeedOutcome,
    notes: Sequence[str],
    warmup: str | None,
) -> TrainResult:
    final, adapter = best.final, best.adapter
    baseline = data.task.baseline(data.train.targets, data.validation.targets)
    return TrainResult(
        task=config.task,
        method=config.method,
        method_config=adapter.method.config(),
        backbone=material.backbone.name,
        kind=final.task.kind,
        labels=final.task.labels,
        metric=final.task.metric.name,
        higher_is_better=final.task.metric.higher_is_better,
        metrics=final.values,
        head_metrics=best.head.best.values if best.head is not None else None,
        baseline=baseline,
        num_train=len(data.train),
        num_validation=len(data.validation),
        num_body_parameters=adapter.num_body_parameters,
        num_head_parameters=adapter.num_head_parameters,
        num_backbone_parameters=material.backbone.num_parameters,
        seed=best.seed,
        seed_values={outcome.seed: outcome.final.value for outcome in outcomes},
        best_epoch=best.body.best_epoch if best.body is not None else 0,
        hyper=dict(vars(hyper)),
        history=best.history,
        evaluation=final,
        data=data.page.to_dict(),
        notes=tuple(notes),
        warnings=cautions_of(best, baseline, warmup),
    )
