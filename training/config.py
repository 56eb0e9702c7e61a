"""Every setting of one training run: its type and one sentence of help; and how gaps are filled.

`TrainConfig` is what the user asked for (None = "you choose"); `Hyper` is what the run does, with no gaps
left. Only `recipe.py` and `full.py` read these; everything below them takes plain values. The limits of each
setting are in `checks.py`, the defaults of each method in `defaults.py`.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from training.checks import HEAD, TEXT_TO_TEXT, problems_of
from training.compacter_recipe import Occasion, recipe
from training.defaults import MethodDefaults, defaults_for
from training.errors import ConfigError


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


def _no_config() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What to train, on what, how, and where the file goes.

    Raises:
        ConfigError: a value is outside its limits, or two values contradict each other; all problems at once.
    """

    data: str = field(metadata={"help": "folder with train/validation/test files, or one file of rows"})
    task: str = field(
        metadata={"help": "name of the task: lower-case letters, digits, '.', '_', '-', at most 64"}
    )
    method: str = _setting("hadamard", "adapter method, as listed by `trunkline methods`")
    method_config: Mapping[str, Any] = field(
        default_factory=_no_config,
        metadata={"help": "settings of the method, e.g. norm=both; its own defaults otherwise"},
    )
    backbone: str = _setting("minilm", "`minilm`, a local model directory, or a hub id")
    form: str = _setting(
        HEAD,
        "head (a classifier on the backbone's state) or text-to-text (an encoder-decoder writes the label)",
    )
    recipe: str | None = _setting(
        None, "compacter: train as that paper does (rates, epochs, batches, warm-up, best checkpoint)"
    )
    device: str = _setting("auto", "auto, cpu or cuda (a number may follow, cuda:1)")
    out: str | None = _setting(None, "adapter file to write; <task>.safetensors when not given")
    file_dtype: str = _setting("float32", "number format inside the file: float32 or float16")
    report: str | None = _setting(None, "folder for a learning curve and a short report")
    description: str = _setting("", "one sentence about the task, kept in the file")

    kind: str | None = _setting(
        None,
        "single_sentence, sentence_pair, regression, multi_label or multiple_choice, instead of dataset.json",
    )
    text_fields: tuple[str, ...] | None = _setting(
        None, "the one or two text fields, in order, instead of dataset.json (more with text-to-text)"
    )
    choice_fields: tuple[str, ...] | None = _setting(
        None, "the fields of a multiple choice's answers, or the one that lists them"
    )
    label_field: str | None = _setting(
        None, "the field with the label (`label`, or `labels` for multi-label)"
    )
    label_names: tuple[str, ...] | None = _setting(
        None, "label names in index order, instead of dataset.json"
    )
    metric: str | None = _setting(
        None, "metric that chooses the best epoch, instead of dataset.json; f1+accuracy means their mean"
    )
    format: str = _setting(
        "auto",
        "text-to-text: an official GLUE or SuperGLUE task, fields (`name: text` of each field), or auto "
        "(by the data set's name)",
    )
    targets: str = _setting("digits", "text-to-text: labels as digits, as in the papers, or as words")
    task_prefix: bool | None = _setting(
        None, "text-to-text: put the task's name in front; as in the paper when not given (by method)"
    )
    official_code: bool = _setting(
        False,
        "text-to-text: exactly what the papers' code writes (MNLI lacks a colon, COPA its question, "
        "STS-B rounds to 0.1)",
    )
    class_weights: str = _setting("none", "auto (inverse frequency), none, or a JSON file {label: weight}")
    split_rule: str = _setting(
        "files",
        "files (train and validation as they are), or paper (the Compacter paper's seeded splits of them)",
    )
    validation_fraction: float = _setting(
        0.1, "share of the train rows held out when there is no validation file"
    )
    max_train_rows: int | None = _setting(
        None, "use only the first rows of the train file (of its seeded permutation with split_rule paper)"
    )
    max_validation_rows: int | None = _setting(None, "use only the first rows of the validation file")
    max_tokens: int | None = _setting(None, "longer inputs are cut to this many tokens, longest text first")

    epochs: int | None = _setting(None, "passes over the data in stage two (adapter)")
    head_epochs: int | None = _setting(
        None, "passes over the cached features in stage one (head); 0 skips the stage"
    )
    lr: float | None = _setting(None, "learning rate of the adapter")
    head_lr: float | None = _setting(
        None, "learning rate of the head in stage one (on standardised features)"
    )
    lr_head_stage2: float | None = _setting(None, "learning rate of the head in stage two")
    train_head: bool = _setting(True, "train the head on in stage two; off = it keeps what stage one found")
    batch_size: int | None = _setting(None, "most rows of a batch")
    batch_tokens: int | None = _setting(None, "most tokens of a batch")
    min_steps: int | None = _setting(
        None,
        "stage two gets more epochs on small data until it has this many steps; no effect with epochs given",
    )
    evaluate_steps: int | None = _setting(
        None, "evaluate after the first epoch that ends so many steps after the last time; 0 = every epoch"
    )
    warmup: float | None = _setting(None, "share of the steps in which the learning rate rises")
    warmup_steps: int | None = _setting(None, "the same as a number of steps; 0 = use the share")
    weight_decay: float | None = _setting(
        None, "decay of the head's weights in stage two; adapter parameters never decay"
    )
    head_weight_decay: float | None = _setting(None, "decay of the head's weights in stage one")
    patience: int | None = _setting(
        None, "a stage stops after this many epochs without a better validation metric"
    )
    pooling: str | None = _setting(None, "mean, first or pooler; eos on an encoder-decoder")
    seed: int = _setting(0, "first seed: initial head, order of rows, split")
    seeds: int = _setting(1, "train this many seeds, keep the best by validation, tell the spread")
    resume: bool = _setting(True, "go on from <out>.resume when it belongs to the same run")

    def __post_init__(self) -> None:
        problems = problems_of(vars(self))
        if problems:
            raise ConfigError("; ".join(problems))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Build from plain JSON values (lists become tuples).

        Raises:
            ConfigError: an unknown key (with the nearest known one), a missing one, or a bad value.
        """
        known = [f.name for f in fields(cls)]
        unknown = [key for key in values if key not in known]
        if unknown:
            raise ConfigError("; ".join(_unknown_key(key, known) for key in unknown))
        missing = [key for key in ("data", "task") if key not in values]
        if missing:
            raise ConfigError(f"missing setting(s): {', '.join(missing)}")
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as `from_mapping` takes them."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    def public_dict(self) -> dict[str, Any]:
        """`to_dict` without folders of this machine (paths keep their last part), for the adapter file."""
        values = self.to_dict()
        for key in ("data", "out", "report", "backbone"):
            if isinstance(values[key], str) and Path(values[key]).is_absolute():
                values[key] = Path(values[key]).name
        if self.class_weights not in ("auto", "none"):
            values["class_weights"] = Path(self.class_weights).name
        return values

    @property
    def out_path(self) -> Path:
        """Where the adapter file goes."""
        return Path(self.out) if self.out is not None else Path(f"{self.task}.safetensors")

    def all_seeds(self) -> range:
        """Every seed of the run."""
        return range(self.seed, self.seed + self.seeds)

    def with_seed(self, seed: int) -> "TrainConfig":
        """The same run with one other seed."""
        return replace(self, seed=seed, seeds=1)


@dataclass(frozen=True)
class Situation:
    """What is known once data and backbone are loaded: `official` task (None = another), rows, limits.

    `positions` is the backbone's limit in tokens, of which `virtual_tokens` are taken by the method.
    """

    official: str | None
    num_train: int
    subsampled: bool
    hidden_size: int
    positions: int
    virtual_tokens: int
    poolings: tuple[str, ...]


@dataclass(frozen=True)
class Hyper:
    """The numbers of a run with every gap filled from the method's row in `defaults.py` or from a recipe."""

    epochs: int
    head_epochs: int
    lr: float
    head_lr: float
    lr_head_stage2: float
    train_head: bool
    batch_size: int
    batch_tokens: int
    min_steps: int
    evaluate_steps: int
    warmup: float
    warmup_steps: int
    weight_decay: float
    head_weight_decay: float
    patience: int | None
    pooling: str
    max_tokens: int
    method_config: Mapping[str, Any]

    def epochs_for(self, steps_per_epoch: int) -> int:
        """Epochs of stage two: `epochs`, or more until there are `min_steps` steps."""
        if self.epochs == 0 or steps_per_epoch <= 0:
            return self.epochs
        return max(self.epochs, math.ceil(self.min_steps / steps_per_epoch))

    def warmup_for(self, num_steps: int) -> float:
        """Share of `num_steps` steps in which the rate of stage two rises."""
        if self.warmup_steps == 0:
            return self.warmup
        return min(1.0, self.warmup_steps / max(1, num_steps))

    def evaluate_every(self, steps_per_epoch: int) -> int:
        """Epochs from one evaluation to the next."""
        return max(1, math.ceil(self.evaluate_steps / max(1, steps_per_epoch)))


def resolve(config: TrainConfig, method: str | None = None, situation: Situation | None = None) -> Hyper:
    """Fill the gaps of `config`: from its recipe, then from the row of its method (or of `method`).

    Without a `situation` what depends on data and backbone (a recipe, the limits) is left out.
    """
    row = defaults_for(method or config.method)
    filled: dict[str, Any] = {f.name: getattr(row, f.name, None) for f in fields(Hyper)}
    filled["lr"] = _rate(config, row)
    if situation is not None:
        filled |= _fitting(config, filled, situation)
    given = {f.name: getattr(config, f.name) for f in fields(Hyper)}
    if config.epochs is not None and config.min_steps is None:
        given["min_steps"] = 0
    if config.warmup is not None and config.warmup_steps is None:
        given["warmup_steps"] = 0
    filled |= {name: value for name, value in given.items() if value is not None}
    filled["method_config"] = dict(config.method_config or row.method_config)
    if config.form == TEXT_TO_TEXT:  # there is no head: nothing of it is trained or pooled
        filled |= {"head_epochs": 0, "train_head": False, "pooling": "none"}
    return Hyper(**filled)


def _rate(config: TrainConfig, row: MethodDefaults) -> float:
    """The method's own rate; the published one for T5 where the run is like the paper's."""
    if row.published is None or (config.form != TEXT_TO_TEXT and config.recipe is None):
        return row.lr
    return row.published.lr_for({**row.method_config, **config.method_config})


def _fitting(config: TrainConfig, filled: Mapping[str, Any], situation: Situation) -> dict[str, Any]:
    """What the recipe says, and defaults that the backbone can take."""
    fitted: dict[str, Any] = {}
    if config.recipe is not None:
        occasion = Occasion(
            situation.official, situation.num_train, situation.subsampled, situation.hidden_size
        )
        fitted |= {**recipe(occasion), "lr_head_stage2": filled["lr"], "patience": None}
    tokens = fitted.get("max_tokens", filled["max_tokens"])
    fitted["max_tokens"] = min(tokens, situation.positions - situation.virtual_tokens)
    if filled["pooling"] not in situation.poolings and situation.poolings:
        fitted["pooling"] = situation.poolings[0]
    return fitted


def _unknown_key(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(known)}"
    return f"unknown setting {key!r}; {hint}"
