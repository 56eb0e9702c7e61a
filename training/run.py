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

from modeling import Backbone, load_backbone
from proof.fresh import check_in_fresh_process
from training.data.load import TaskData, load_data
from training.errors import ConfigError
from training.file.announce import Verify, adapter_caution, check_writable, code_version
from training.file.publish import publish
from training.learning.material import build_method, check_room, settle
from training.learning.pairs import way_to_read
from training.learning.refit import on_all_rows, told
from training.learning.search import Chosen, Search
from training.learning.seed import SeedRun
from training.loop.device import pick_device
from training.loop.fit import StagePlan
from training.loop.journal import RESUMED, FileJournal, Journal, NoJournal
from training.loop.precision import chosen, products_of
from training.loop.progress import NullProgress, Progress
from training.loop.stages import Material
from training.report.calibrate import calibrate, check_abstain
from training.report.cautions import cautions_of, warmup_caution
from training.report.result import SeedOutcome, TrainResult, pick_best
from training.report.write import check_report, write_report
from training.settings.checks import AUTO
from training.settings.config import Hyper, TrainConfig

_CHECK_S = 5.0
"""What a fresh process takes to read the file, about."""


def train(
    config: TrainConfig,
    *,
    progress: Progress | None = None,
    backbone: Backbone | None = None,
    write_file: bool = True,
    verify: Verify = check_in_fresh_process,
    search: Search | None = None,
) -> TrainResult:
    """Train one task and write its adapter file.

    `backbone` may be given when it is loaded already. `write_file=False` publishes nothing (benchmarks).
    `search` chooses the method where that is auto (`training.lab.search.search`).

    Raises:
        ConfigError, DataError: before anything is trained.
        TrainingFailedError: the run itself went wrong.
        PublishError: the written file answers otherwise in a fresh process; nothing is announced.
    """
    started = time.monotonic()
    progress = progress or NullProgress()
    if write_file:
        check_writable(config.out_path)
    check_report(config)
    run, notes = _begun(_startable(config, search), backbone, progress)
    found = _searched(config, run, search, started, write_file=write_file)
    run = found.run
    config, hyper, data, material = run.config, run.hyper, run.data, run.material
    journals = _Journals(run, write_file)
    outcomes, plans, doubts = zip(
        *(_one_seed(run, seed, journals, found.trained.get(seed)) for seed in config.all_seeds()), strict=True
    )
    best = on_all_rows(run, pick_best(outcomes), plans[0])
    if best.on_all_rows:
        notes.append(told(best, len(data.train) + len(data.validation)))
    result = _result(config, hyper, data, material, outcomes, best, notes, doubts[0])
    result = replace(result, leaderboard=found.leaderboard)
    for warning in result.warnings:
        progress.note(warning)
    if write_file:
        announced, values = publish(
            config, hyper, data, material, best, progress, verify, leaderboard=result.leaderboard
        )
        result = replace(result, file=announced, metrics=values)  # of the tensors as the file holds them
        journals.forget()
    result = replace(result, seconds=time.monotonic() - started)
    if config.report is not None:
        page = write_report(config.report, config, data, (material.train, material.validation), result)
        progress.note(f"{page}: a page about this run")
    return result


def _begun(config: TrainConfig, backbone: Backbone | None, progress: Progress) -> tuple[SeedRun, list[str]]:
    """The run, before anything is trained but heads that tell how pairs are read, and what is told of it."""
    method = build_method(config)
    progress.begin("data", 0)
    data = load_data(config)
    data.page.tell(progress)
    check_abstain(config.abstain, data.task)
    backbone = backbone or load_backbone(config.backbone, device=pick_device(config.device))
    config = replace(config, precision=chosen(config.precision, backbone.device))
    check_room(method, backbone)
    hyper = settle(config, data, backbone, virtual=method.virtual_tokens)
    data = data.on(backbone)
    progress.end("data")
    read = way_to_read(config, hyper, data, backbone, method.virtual_tokens, progress)
    hyper, material, notes = read.hyper, read.material, [*read.notes]
    for note in notes[len(data.notes) :]:
        progress.note(note)
    products = products_of(config.precision, backbone.model, backbone.device)
    strength = None if hyper.head_l2 is None else 1 / hyper.head_l2
    run = SeedRun(config, hyper, method, data, material, progress, products, (strength, strength))
    run.features = read.features
    return run, notes


def _startable(config: TrainConfig, search: Search | None) -> TrainConfig:
    """With a method to begin with, where it is to be found. Raises ConfigError if nobody looks for it."""
    if config.method != AUTO:
        return config
    if search is None:
        raise ConfigError("method is 'auto', and no search was given (training.lab.search.search)")
    return replace(config, method=TrainConfig.method, budget=None)


def _searched(
    asked: TrainConfig, run: SeedRun, search: Search | None, started: float, *, write_file: bool
) -> Chosen:
    """The run to finish: the one asked for, or what a search makes of it in what is left of its time."""
    if asked.method != AUTO or search is None:
        return Chosen(run, {}, None)
    left = asked.budget_s - min(_CHECK_S, asked.budget_s / 10) - (time.monotonic() - started)
    return search(run, _Journals(run, write_file).of_search(), left)


def _one_seed(
    run: SeedRun, seed: int, journals: "_Journals", trained: SeedOutcome | None
) -> tuple[SeedOutcome, StagePlan | None, str | None]:
    """All stages with one seed, unless it is trained already, its plan, and what is doubtful about that."""
    adapter = run.create(seed)
    caution = adapter_caution(adapter, run.config.file_dtype) if journals.kept else None
    if caution is not None and seed == run.config.seed:
        run.progress.note(caution)
    plan, steps = run.plan(adapter, seed)  # before anything is trained: it can be refused
    doubt = None if plan is None else warmup_caution(run.config, run.hyper, plan, steps)
    return trained or run.run(adapter, plan, seed, journals.of(seed)), plan, doubt


@dataclass(frozen=True)
class _Journals:
    """Where the seeds of a run keep their state, so that a killed run goes on."""

    run: SeedRun
    kept: bool

    def of(self, seed: int) -> Journal:
        if not self.kept:
            return NoJournal()
        return self._open(self.path(seed), seed)

    def of_search(self) -> Journal:
        """What a search has tried."""
        return self._open(self._search_path, self.run.config.seed) if self.kept else NoJournal()

    def _open(self, path: Path, seed: int) -> Journal:
        journal = FileJournal(path, self._fingerprint(seed), resume=self.run.config.resume)
        if journal.found is not None:
            state = "resumed from" if journal.found == RESUMED else f"not used ({journal.found}):"
            self.run.progress.note(f"{state} {journal.path.name}")
        return journal

    def path(self, seed: int) -> Path:
        out = self.run.config.out_path
        return out.with_name(out.name + (".resume" if self.run.config.seeds == 1 else f".{seed}.resume"))

    @property
    def _search_path(self) -> Path:
        out = self.run.config.out_path
        return out.with_name(f"{out.name}.lab")

    def forget(self) -> None:
        """The file is announced: nothing is left to resume."""
        self._search_path.unlink(missing_ok=True)
        for seed in self.run.config.all_seeds():
            self.path(seed).unlink(missing_ok=True)

    def _fingerprint(self, seed: int) -> str:
        """Names what decides the numbers of one seed: settings, data, backbone, versions."""
        settings = self.run.config.with_seed(seed).to_dict()
        for name in (
            "data",
            "out",
            "report",
            "abstain",
            "budget",
            "description",
            "resume",
            "file_dtype",
            "backbone",
        ):
            settings.pop(name)
        settings |= {name: str(value) for name, value in vars(self.run.hyper).items()}
        backbone, weights = self.run.material.backbone, self.run.material.wanted.weights
        parts = [
            settings,
            self.run.data.digest,
            str(self.run.data.task.metric),
            None if weights is None else weights.tolist(),
            backbone.weights_digest,
            str(backbone.device),
            torch.__version__,
            code_version(),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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
        method=adapter.method.name,
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
        calibration=calibrate(final.task, final.logits, data.validation.targets, config.abstain),
        data=data.page.to_dict(),
        notes=tuple(notes),
        warnings=cautions_of(best, config.method, baseline, warmup),
        on_all_rows=best.on_all_rows,
        out_of_fold=best.out_of_fold,
    )
