"""What is doubtful about a run that can go through: sentences for a person, with their remedies. No work."""

from training.errors import ConfigError
from training.loop.fit import StagePlan
from training.report.result import SeedOutcome
from training.settings.config import Hyper, TrainConfig
from training.tasks import Baseline

_NEARLY_NOUGHT = 0.01
_A_PART = 0.5
_DECIMALS = 4  # of a metric as it is told: what cannot be seen there is rounding


def warmup_caution(config: TrainConfig, hyper: Hyper, plan: StagePlan, steps_per_epoch: int) -> str | None:
    """A sentence when all steps of stage two are warm-up steps of a recipe.

    Raises:
        ConfigError: when it was the user who asked for so many of them.
    """
    num_steps = plan.epochs * steps_per_epoch
    if hyper.warmup_steps == 0 or hyper.warmup_steps < num_steps:
        return None
    found = (
        f"warmup_steps is {hyper.warmup_steps}, and stage {plan.name} has {num_steps} steps: the learning "
        "rate rises to the last of them, and little is learnt"
    )
    remedy = "more epochs, or --warmup 0.06 (a share of the steps)"
    if num_steps > 1:
        remedy = f"--warmup-steps under {num_steps}, {remedy}"
    if config.warmup_steps is not None:
        raise ConfigError(f"{found}; give {remedy}")
    return f"{found} (the recipe's warm-up is made for larger data); give {remedy}"


def cautions_of(
    best: SeedOutcome, asked: str, baseline: Baseline, warmup: str | None = None
) -> tuple[str, ...]:
    """Everything to be careful about in the outcome; `warmup` is what `warmup_caution` found.

    `asked` is the method that was asked for.
    """
    found = [
        warmup,
        _alone(best, asked),
        _nothing_left(best),
        _stage_two(best, has_reason=warmup is not None),
    ]
    final = best.final
    found.append(final.task.constant_warning(final.logits))
    metric = final.task.metric
    floor = baseline.values.get(metric.name)
    if floor is not None and not metric.better(final.value, floor):
        found.append(f"{metric.name} {final.value:.4f} is not better than {baseline.name} at {floor:.4f}")
    return tuple(sentence for sentence in found if sentence is not None)


def _alone(best: SeedOutcome, asked: str) -> str | None:
    """The head alone is shipped although an adapter was trained."""
    if best.adapter.method.name == asked or best.head is None or best.body is None:
        return None
    name = best.final.task.metric.name
    with_it = (best.again or best.body).best.value
    return (
        f"{asked} found nothing: {name} is {with_it:.4f} with it and {best.final.value:.4f} for the head "
        f"alone, so the file holds that ({best.adapter.method.name}); try more epochs or another --lr"
    )


def _nothing_left(best: SeedOutcome) -> str | None:
    """A loss of nought from the start gives no gradient."""
    losses = [r.loss for r in best.history if r.stage == "adapter" and r.epoch == 1]
    if not losses or losses[0] is None or losses[0] >= _NEARLY_NOUGHT:
        return None
    found = f"the train loss of stage two is {losses[0]:.4f} from its first epoch on"
    if best.head is None:
        return (
            f"{found}: the frozen backbone tells the train rows apart already; give more rows, or harder ones"
        )
    return (
        f"{found}: the head alone tells the train rows apart, so the adapter has little to learn from; give "
        "more rows, or a lower --head-start"
    )


def _fell(best: SeedOutcome) -> bool:
    """Whether the train loss of stage two fell to a part of what it was: it has learnt something."""
    losses = [r.loss for r in best.history if r.stage == "adapter" and r.loss is not None]
    return bool(losses) and losses[-1] < _A_PART * losses[0]


def _stage_two(best: SeedOutcome, *, has_reason: bool) -> str | None:
    """Stage two below the head alone, which can be where a method does not begin as the frozen model.

    Without any gain the advice is about rates and epochs, unless another reason is told already.
    """
    if best.head is None or best.body is None or not best.adapter.num_body_parameters:
        return None
    metric, method = best.final.task.metric, best.adapter.method.name
    alone, final = best.head.best.value, best.final.value
    if metric.better(round(alone, _DECIMALS), round(final, _DECIMALS)):
        found = f"{metric.name} {final:.4f} is worse than the {alone:.4f} of the head alone"
        if best.body.best_epoch == 0 or _fell(best):
            return (
                f"{found}: {method} fits the train rows and gains nothing on held-out ones; give more rows, "
                "or linear_probe, which is the head alone"
            )
        return (
            f"{found}: {method} has not made up for where it began; give more epochs, a higher --lr, or "
            "another method (linear_probe is the head alone)"
        )
    if round(alone, _DECIMALS) == round(final, _DECIMALS) and best.body.best_epoch > 0:
        return (
            f"no difference on held-out rows between {method} and the head alone ({metric.name} {final:.4f} "
            "both): with linear_probe the file is smaller"
        )
    if best.body.best_epoch == 0 and not has_reason:
        return "stage two found nothing better than stage one: try other learning rates or more epochs"
    return None
