"""Arms on one material: features and the states below a layer once, a trial of any share of a full run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil

from modeling import Adapter, Backbone, readout_of
from training.errors import ConfigError, TrainingFailedError
from training.file.announce import STORED_DTYPES
from training.lab.arms import HEAD_ALONE, Arm
from training.lab.halving import SHARES
from training.lab.trial import Judge, Trial
from training.learning.material import build_method, settle
from training.learning.seed import SeedRun
from training.loop.journal import Journal, NoJournal
from training.loop.passes import trained
from training.loop.prefix import Below, lowest_layer
from training.loop.progress import NullProgress
from training.loop.stages import frozen_features, room_for
from training.report.result import SeedOutcome

_FEWEST_STEPS = 10
"""A trial of fewer steps says nothing."""
_BACKWARD = 3.0
"""A row that is trained on costs so many passes."""
_EVALUATIONS = 3.0
"""Of a trial: before the first step, after the last, and of what is kept."""
Clock = Callable[[], float]


@dataclass
class LabBench:
    """What the arms of one search share; the method of `run` stands for none.

    `seconds` is all the time there is; trials that a journal has count with what they took. `kept` are the
    full runs of this process, ready to be shipped.
    """

    run: SeedRun
    journal: Journal
    seconds: float
    clock: Clock = time.monotonic
    restored_s: float = 0.0
    kept: dict[Arm, SeedOutcome] = field(default_factory=dict)
    _below: dict[int, Below] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.started = self.clock()
        material = self.run.material
        self.judge = Judge(material.task, material.spec, list(material.validation_targets))

    def left(self) -> float:
        """Seconds; it can be less than nought."""
        return self.seconds - self.restored_s - (self.clock() - self.started)

    @property
    def has_head(self) -> bool:
        return readout_of(self.run.material.spec).has_head and self.run.hyper.fit_head

    def warm_up(self) -> float:
        """Seconds for the pass of a row, by the features, where there is a head that reads them and they are
        not known yet, or by the held-out rows, whichever was faster."""
        material, begun = self.run.material, self.clock()
        if self.has_head and self.run.features is None:
            self.run.features = frozen_features(material, self.run.progress, None, self.run.products)
            rows = len(material.train) + len(material.validation)
            return min((self.clock() - begun) / rows, self._pace_of_held_out())
        return self._pace_of_held_out()

    def _pace_of_held_out(self) -> float:
        """Of a process that has just begun the first pass is slower than any after it."""
        material, begun = self.run.material, self.clock()
        adapter = self.run.create(self.run.config.seed)
        with adapter.attached(material.backbone):
            material.measured(trained(material.backbone, adapter, material.validation))
        return (self.clock() - begun) / len(material.validation)

    def run_of(self, arm: Arm, share: float = 1.0) -> SeedRun:
        """The run of this arm alone; a shorter one has fewer epochs, or fewer batches of one."""
        config = arm.applied(self.run.config)
        own = settle(config, self.run.data, self.run.material.backbone)
        hyper = replace(own, pooling=self.run.hyper.pooling)  # pairs may be read otherwise than by default
        run = replace(self.run, config=config, hyper=hyper, method=build_method(config))
        if share == 1:
            return run
        epochs = ceil(hyper.epochs * share - 1e-9)
        short = replace(hyper, epochs=epochs, refit="none", patience=None)
        batches = max(1, round(self.steps_of(arm) * hyper.epochs * share / epochs))
        quiet = NullProgress()
        return replace(run, hyper=short, judges=False, most_batches=batches, progress=quiet)

    def steps_of(self, arm: Arm) -> int:
        """Batches of an epoch, about: rows and tokens both end one."""
        hyper, material = self.run.hyper, self.run.material
        tokens = sum(material.train.lengths)
        return max(1, ceil(len(material.train) / hyper.batch_size), ceil(tokens / hyper.batch_tokens))

    def shares(self, arm: Arm) -> list[float]:
        """Those in which a trial has enough steps to say something."""
        steps = self.steps_of(arm) * self.run_of(arm).hyper.epochs
        return [share for share in SHARES if share == 1 or steps * share >= _FEWEST_STEPS]

    def work(self, arm: Arm, share: float) -> float:
        """In passes of a row: to train, to measure, and for the head that is fitted once more."""
        epochs = self.run_of(arm).hyper.epochs
        num_train, num_held = len(self.run.material.train), len(self.run.material.validation)
        work = _BACKWARD * share * epochs * num_train + _EVALUATIONS * num_held
        if share == 1:
            work += (epochs - 1) * num_held + (num_train + num_held) * self.has_head
        return work

    def measure(self, arm: Arm, share: float) -> Trial:
        """Train it, unless the journal knows it."""
        key = f"{arm.name}, {share:.4f}"
        stored = self.journal.load(key)
        if stored is not None:
            trial = Trial.from_plain(stored)
            self.restored_s += trial.seconds
        else:
            trial = self._trained(arm, share)
            self.journal.save(key, trial.to_plain())
        self._tell(arm, share, trial)
        return trial

    def _trained(self, arm: Arm, share: float) -> Trial:
        begun = self.clock()
        work = 0.0 if arm.method == HEAD_ALONE else self.work(arm, share)
        try:
            outcome = self._outcome(arm, share)
        except (ConfigError, TrainingFailedError) as error:
            return Trial.of_failure(str(error), work, self.clock() - begun)
        if share == 1:
            self.kept[arm] = outcome
        final, adapter = outcome.final, outcome.adapter
        return Trial(
            value=final.value,
            loss=final.loss,
            logits=final.logits,
            higher_is_better=final.task.metric.higher_is_better,
            num_parameters=adapter.num_body_parameters + adapter.num_head_parameters,
            file_bytes=bytes_of(adapter, self.run.config.file_dtype),
            work=work,
            seconds=self.clock() - begun,
        )

    def _outcome(self, arm: Arm, share: float) -> SeedOutcome:
        run, seed = self.run_of(arm, share), self.run.config.seed
        run.progress = NullProgress()
        adapter = run.create(seed)
        plan, _ = run.plan(adapter, seed)
        if plan is not None:
            run.below = self._below_of(run.material.backbone, adapter)
            if share < 1:
                plan = replace(plan, every=plan.epochs)
        return run.run(adapter, plan, seed, NoJournal())

    def _below_of(self, backbone: Backbone, adapter: Adapter) -> Below:
        """What enters its lowest layer, made once for all arms that begin there."""
        layer = lowest_layer(backbone, adapter)
        if layer not in self._below:
            rounded = self.run.products is not None
            self._below[layer] = room_for(self.run.material, adapter, self.run.progress, rounded=rounded)
        return self._below[layer]

    def _tell(self, arm: Arm, share: float, trial: Trial) -> None:
        metric = self.run.material.task.metric.name
        part = "" if share == 1 else f" after {share:.0%} of its steps"
        found = f"{metric} {trial.value:.4f}{part} ({trial.seconds:.1f} s)"
        self.run.progress.step(None)
        self.run.progress.tell(f"{arm.name}: {found if trial.failed is None else trial.failed}")


def bytes_of(adapter: Adapter, dtype: str) -> int:
    """Its tensors in a file."""
    return (adapter.num_body_parameters + adapter.num_head_parameters) * STORED_DTYPES[dtype].itemsize
