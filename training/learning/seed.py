"""One seed of a run: the head on the frozen backbone, the adapter under it, and the head once more.

What is kept is decided on the validation rows: the head fitted again on what the adapter gives, the head as
it was trained, or the head alone, whose file has no adapter.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from failures import Failure
from modeling import METHODS, Adapter, AdapterError, HeadSpec, Method, kind_of
from training.data.load import TaskData
from training.errors import ConfigError
from training.learning.material import stage_plan
from training.loop.fit import EpochRecord, Evaluation, Learner, StagePlan, StageResult, fit
from training.loop.fitted import HeadFit, Sample, fit_head
from training.loop.journal import Journal
from training.loop.precision import RoundedProducts
from training.loop.prefix import Below
from training.loop.progress import Progress
from training.loop.stages import (
    Features,
    Material,
    adapted_features,
    adapter_learner,
    frozen_features,
    measured_head,
    room_for,
)
from training.loop.states import States
from training.report.result import SeedOutcome
from training.settings.checks import HEAD, TEXT_TO_TEXT
from training.settings.config import Hyper, TrainConfig

ALONE = "linear_probe"
LEARNT = 1e-3  # mean train loss below which a stage ends: a row is then told with a probability of 0.999


@dataclass
class SeedRun:
    """What the seeds of a run share; features, and what lies below the adapter, are made once.

    `strengths` are those of the two heads' decay (C), by cross-validation where None. `judges`: whether the
    validation rows decide what is kept; they do not once they are train rows. `heads` are those fitted on
    the frozen backbone, by seed; an epoch has `most_batches` at most, where that is given.
    """

    config: TrainConfig
    hyper: Hyper
    method: Method
    data: TaskData
    material: Material
    progress: Progress
    products: RoundedProducts | None = None
    strengths: tuple[float | None, float | None] = (None, None)
    judges: bool = True
    features: Features | None = None
    below: Below | None = None
    heads: dict[int, HeadFit] = field(default_factory=dict)
    most_batches: int | None = None

    def create(self, seed: int) -> Adapter:
        """A new adapter. Raises ConfigError where the method does not fit or nothing would be trained."""
        adapter = new_adapter(self.material, self.method, seed)
        if adapter.head is None and not adapter.num_body_parameters:
            other = f", or --form {HEAD}" if self.config.form == TEXT_TO_TEXT else ""
            found = f"{self.config.method} trains a head alone, and {self.data.task.kind} has none"
            raise ConfigError(f"nothing to train: {found}; choose another method{other}")
        if not (self._fits(adapter) or (self.hyper.epochs and adapter.num_body_parameters)):
            found = f"{self.config.method} with these epochs"
            raise ConfigError(f"nothing to train: {found}; raise epochs, or let the head be fitted")
        return adapter

    def plan(self, adapter: Adapter, seed: int) -> tuple[StagePlan | None, int]:
        """How long stage two lasts, and its steps an epoch. A method without a body has none."""
        if adapter.num_body_parameters == 0 or self.hyper.epochs == 0:
            return None, 0
        steps = len(self._learner(adapter, seed, None).batches(1))
        literal = self.config.recipe is not None  # a paper's recipe runs for as long as its paper says
        keep_last, learnt = self._fits(adapter) and not literal, None if literal else LEARNT
        return stage_plan(self.hyper, steps, keep_last=keep_last, learnt=learnt), steps

    def run(self, adapter: Adapter, plan: StagePlan | None, seed: int, journal: Journal) -> SeedOutcome:
        """All stages with one seed; the adapter is left in the state that is kept."""
        if self.below is None and plan is not None:
            self.below = room_for(self.material, adapter, self.progress, rounded=self.products is not None)
        fitted = self._fit_head(adapter, seed)
        head = None if fitted is None else self._reached("head", self.features, fitted)
        if plan is None:
            assert head is not None, "a run without any stage is refused at the start: this is a bug"
            return SeedOutcome(seed, adapter, head, None, head.best, fitted)
        if fitted is not None and adapter.head is not None:
            soften(adapter.head, self.material.spec, self.hyper.head_start)
        with adapter.attached(self.material.backbone):
            body = fit(plan, self._learner(adapter, seed, self.below), self.progress, journal)
            outcome = SeedOutcome(seed, adapter, head, body, body.best, fitted)
            if plan.keep_last and self.hyper.refit != "none":
                outcome = self._fit_again(outcome)
        return self._unless_alone(outcome)

    def _learner(self, adapter: Adapter, seed: int, below: Below | None) -> Learner:
        learner = adapter_learner(
            self.material, adapter, self.hyper, seed, below=below, products=self.products
        )
        return replace(learner, batches=lambda epoch: learner.batches(epoch)[: self.most_batches])

    def _fits(self, adapter: Adapter) -> bool:
        return adapter.head is not None and self.hyper.fit_head

    def _fit_head(self, adapter: Adapter, seed: int) -> HeadFit | None:
        """Stage one: the head alone on the frozen backbone; its features are computed once per run."""
        if adapter.head is None or not self.hyper.fit_head:
            return None
        if self.features is None:
            self.features = frozen_features(self.material, self.progress, self.below, self.products)
        fitted = self.heads.get(seed)
        if fitted is None:
            self.progress.begin("head", 0)
            fitted = self.heads[seed] = self._fitted(self.features.train, self.strengths[0], seed)
            self.progress.end("head")
        fitted.put_into(adapter.head)
        return fitted

    def _fit_again(self, outcome: SeedOutcome) -> SeedOutcome:
        """With the head fitted on what the adapter, which is attached, gives; unless it was better before."""
        adapter = outcome.adapter
        features = adapted_features(self.material, adapter, self.progress, self.below, self.products)
        fitted = self._fitted(features.train, self.strengths[1], outcome.seed)
        reached = self._reached("refit", features, fitted)
        if adapter.head is None or (self.judges and better(outcome.chosen, reached.best)):
            return outcome
        fitted.put_into(adapter.head)
        return replace(outcome, chosen=reached.best, again=reached, fitted_again=fitted, adapted=features)

    def _fitted(self, states: States, strength: float | None, seed: int) -> HeadFit:
        strata = self.data.task.strata(self.data.train.targets)
        wanted = self.config.report is not None  # which tells rows that heads disagree with
        return fitted_head(self.material, states, strata, strength, seed, every_row=wanted)

    def _reached(self, stage: str, features: Features | None, fitted: HeadFit) -> StageResult:
        assert features is not None
        device = self.material.backbone.device
        weight, bias = fitted.weight.to(device), fitted.bias.to(device)
        found = measured_head(self.material, features.validation, weight, bias)
        return StageResult(found, 1, (EpochRecord(stage, 1, fitted.loss, found.loss, found.values),))

    def _unless_alone(self, outcome: SeedOutcome) -> SeedOutcome:
        """The head alone, if it is clearly better than with the adapter."""
        head, fitted = outcome.head, outcome.fitted
        if head is None or fitted is None or not self.judges or self.config.recipe is not None:
            return outcome
        if not clearly_better(head.best, outcome.chosen):
            return outcome
        alone = new_adapter(self.material, METHODS[ALONE](), outcome.seed)
        assert alone.head is not None
        fitted.put_into(alone.head)
        return replace(outcome, adapter=alone, chosen=head.best, again=None, fitted_again=None, adapted=None)


def new_adapter(material: Material, method: Method, seed: int) -> Adapter:
    """Raises ConfigError where the method does not fit the backbone."""
    try:
        return Adapter.create(material.backbone, method, material.spec, seed=seed)
    except AdapterError as error:
        found = "; ".join(_sentence(method.name, failure) for failure in error.failures)
        raise ConfigError(f"{method.name} on {material.backbone.name}: {found}") from error


def _sentence(method: str, failure: Failure) -> str:
    """What is wrong with an adapter that was not read from a file: of options, the method's own words."""
    own = failure.field.startswith("method.config")
    return failure.got.removeprefix(f"method {method}: ") if own else str(failure)


def fitted_head(
    material: Material,
    states: States,
    strata: Sequence[Hashable],
    strength: float | None,
    seed: int,
    *,
    every_row: bool = False,
) -> HeadFit:
    """The head on the states of the train rows; `every_row`: see `fit_head`."""
    on_cpu = States(states.values.float().cpu(), states.counts.cpu())
    sample = Sample(material.readout, material.spec, on_cpu, material.wanted.on_cpu(), strata)
    return fit_head(sample, len(material.spec.labels), strength=strength, seed=seed, every_row=every_row)


def soften(head: nn.Linear, spec: HeadSpec, share: float) -> None:
    """Scale a head down, so that rows which it tells apart for certain still have something to teach."""
    if kind_of(spec).saturates:
        for parameter in (head.weight, head.bias):
            parameter.data.mul_(share)


def better(one: Evaluation, other: Evaluation) -> bool:
    """By the deciding metric, between equals by the loss."""
    if one.value == other.value:
        return one.loss < other.loss
    return one.task.metric.better(one.value, other.value)


def clearly_better(one: Evaluation, other: Evaluation) -> bool:
    """In metric and loss, and by more than one standard error of a share of so few rows.

    Of a metric that is an error, in the data's units, by as large a part of it.
    """
    metric, error = one.task.metric, 0.5 / max(1, len(one.logits)) ** 0.5
    unit = 1.0 if metric.higher_is_better else other.value
    apart = abs(one.value - other.value) > error * unit
    return apart and metric.better(one.value, other.value) and one.loss < other.loss
