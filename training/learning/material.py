"""From settings and data to what is trained on: the method, all numbers, tokens and targets of the splits."""

from collections.abc import Sequence

import torch

from modeling import METHODS, Backbone, Method, MethodError, UnknownNameError, Wanted
from training.data.load import TaskData
from training.errors import ConfigError
from training.loop.class_weights import class_weights
from training.loop.encode import encode_split
from training.loop.fit import StagePlan
from training.loop.stages import Material
from training.settings.checks import MIN_TOKENS, TEXT_TO_TEXT
from training.settings.config import Hyper, Situation, TrainConfig, resolve
from training.tasks import Target, Task


def build_method(config: TrainConfig) -> Method:
    """The configured method.

    Raises:
        ConfigError: an unknown method, or a setting it does not have; both with what is allowed.
    """
    try:
        return METHODS[config.method].from_config(dict(config.method_config))
    except (MethodError, UnknownNameError) as error:
        raise ConfigError(str(error)) from error


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


def stage_plan(
    hyper: Hyper, steps_per_epoch: int, *, keep_last: bool = False, learnt: float | None = None
) -> StagePlan:
    """How long stage two lasts."""
    warmup = hyper.warmup_for(hyper.epochs * steps_per_epoch)
    every = hyper.evaluate_every(steps_per_epoch)
    return StagePlan("adapter", hyper.epochs, warmup, hyper.patience, every, keep_last, learnt)


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
