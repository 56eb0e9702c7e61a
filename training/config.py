"""Every setting of one training run: its type, its limits and one sentence of help; and how gaps are filled.

`TrainConfig` is what the user asked for (None = "you choose"); `Hyper` is what the run does, with no gaps
left. Only `recipe.py` and `full.py` read these; everything below them takes plain values.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from training.defaults import defaults_for
from training.errors import ConfigError

KINDS = ("single_sentence", "sentence_pair", "regression", "multi_label")
POOLINGS = ("mean", "first", "pooler")
FILE_DTYPES = ("float32", "float16")
DEVICES = ("auto", "cpu", "cuda")
_TASK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


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
    device: str = _setting("auto", "auto, cpu or cuda (a number may follow, cuda:1)")
    out: str | None = _setting(None, "adapter file to write; <task>.safetensors when not given")
    file_dtype: str = _setting("float32", "number format inside the file: float32 or float16")
    report: str | None = _setting(None, "folder for a learning curve and a short report")
    description: str = _setting("", "one sentence about the task, kept in the file")

    kind: str | None = _setting(
        None, "single_sentence, sentence_pair, regression or multi_label, instead of dataset.json"
    )
    text_fields: tuple[str, ...] | None = _setting(
        None, "the one or two text fields, in order, instead of dataset.json"
    )
    label_field: str | None = _setting(
        None, "the field with the label (`label`, or `labels` for multi-label)"
    )
    label_names: tuple[str, ...] | None = _setting(
        None, "label names in index order, instead of dataset.json"
    )
    metric: str | None = _setting(None, "metric that chooses the best epoch, instead of dataset.json")
    class_weights: str = _setting("none", "auto (inverse frequency), none, or a JSON file {label: weight}")
    validation_fraction: float = _setting(
        0.1, "share of the train rows held out when there is no validation file"
    )
    max_train_rows: int | None = _setting(None, "use only the first rows of the train file")
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
    warmup: float | None = _setting(None, "share of the steps in which the learning rate rises")
    weight_decay: float | None = _setting(
        None, "decay of the head's weights in stage two; adapter parameters never decay"
    )
    head_weight_decay: float | None = _setting(None, "decay of the head's weights in stage one")
    patience: int | None = _setting(
        None, "a stage stops after this many epochs without a better validation metric"
    )
    pooling: str | None = _setting(None, "mean, first or pooler")
    seed: int = _setting(0, "first seed: initial head, order of rows, split")
    seeds: int = _setting(1, "train this many seeds, keep the best by validation, tell the spread")
    resume: bool = _setting(True, "go on from <out>.resume when it belongs to the same run")

    def __post_init__(self) -> None:
        problems = [*_type_problems(self), *_value_problems(self)]
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
class Hyper:
    """The numbers of a run with every gap filled from the method's row in `defaults.py`."""

    epochs: int
    head_epochs: int
    lr: float
    head_lr: float
    lr_head_stage2: float
    train_head: bool
    batch_size: int
    batch_tokens: int
    min_steps: int
    warmup: float
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


def resolve(config: TrainConfig, method: str | None = None) -> Hyper:
    """Fill the gaps of `config` from the defaults of its method (or of `method`, for the baseline `full`)."""
    row = defaults_for(method or config.method)
    given = {f.name: getattr(config, f.name) for f in fields(Hyper)}
    filled = {name: getattr(row, name) if value is None else value for name, value in given.items()}
    if config.epochs is not None and config.min_steps is None:
        filled["min_steps"] = 0
    filled["method_config"] = dict(config.method_config or row.method_config)
    return Hyper(**filled)


def _unknown_key(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(known)}"
    return f"unknown setting {key!r}; {hint}"


def _type_problems(config: TrainConfig) -> list[str]:
    problems = []
    for name, (test, allowed) in _RULES.items():
        value = getattr(config, name)
        if value is not None and not test(value):
            problems.append(f"{name} is {value!r}; allowed: {allowed}")
    return problems


def _value_problems(config: TrainConfig) -> list[str]:
    problems = []
    if not _TASK_NAME.fullmatch(str(config.task)):
        problems.append(
            f"task is {config.task!r}; allowed: 1 to 64 of lower-case letters, digits, '.', '_' and '-', "
            "the first one a letter or digit"
        )
    if config.kind == "sentence_pair" and config.text_fields is not None and len(config.text_fields) != 2:
        problems.append(f"kind sentence_pair takes two text_fields, got {len(config.text_fields)}: name both")
    if config.kind == "regression" and config.class_weights != "none":
        problems.append("class_weights has no meaning for regression; leave it at none")
    try:
        json.dumps(dict(config.method_config))
    except (TypeError, ValueError) as error:
        problems.append(f"method_config must be plain JSON values: {error}")
    return problems


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low


def _number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)


def _fraction(v: Any) -> bool:
    return _number(v) and 0 <= v < 1


def _rate(v: Any) -> bool:
    return _number(v) and 0 < v <= 10


def _words(v: Any) -> bool:
    return isinstance(v, tuple) and len(v) > 0 and all(isinstance(word, str) and word for word in v)


def _text(v: Any) -> bool:
    return isinstance(v, str) and bool(v)


_Rule = tuple[Callable[[Any], bool], str]
_RULES: Mapping[str, _Rule] = {
    "data": (_text, "a path"),
    "task": (_text, "a name"),
    "method": (_text, "a method name"),
    "method_config": (lambda v: isinstance(v, Mapping), "a mapping"),
    "backbone": (_text, "a name or path"),
    "device": (lambda v: isinstance(v, str) and v.split(":")[0] in DEVICES, ", ".join(DEVICES)),
    "out": (_text, "a path"),
    "file_dtype": (lambda v: v in FILE_DTYPES, ", ".join(FILE_DTYPES)),
    "report": (_text, "a path"),
    "description": (lambda v: isinstance(v, str), "text"),
    "kind": (lambda v: v in KINDS, ", ".join(KINDS)),
    "text_fields": (lambda v: _words(v) and len(v) <= 2 and len(set(v)) == len(v), "one or two field names"),
    "label_field": (_text, "a field name"),
    "label_names": (lambda v: _words(v) and len(set(v)) == len(v), "different names"),
    "metric": (_text, "a metric name"),
    "class_weights": (_text, "auto, none or a JSON file"),
    "validation_fraction": (lambda v: _fraction(v) and v > 0, "a number over 0 and under 1"),
    "max_train_rows": (_whole(1), "a whole number from 1"),
    "max_validation_rows": (_whole(1), "a whole number from 1"),
    "max_tokens": (_whole(8), "a whole number from 8"),
    "epochs": (_whole(0), "a whole number from 0"),
    "head_epochs": (_whole(0), "a whole number from 0"),
    "lr": (_rate, "a number over 0, at most 10"),
    "head_lr": (_rate, "a number over 0, at most 10"),
    "lr_head_stage2": (_rate, "a number over 0, at most 10"),
    "train_head": (lambda v: isinstance(v, bool), "true or false"),
    "batch_size": (_whole(1), "a whole number from 1"),
    "batch_tokens": (_whole(8), "a whole number from 8"),
    "min_steps": (_whole(0), "a whole number from 0"),
    "warmup": (_fraction, "a number from 0, under 1"),
    "head_weight_decay": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "weight_decay": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "patience": (_whole(1), "a whole number from 1"),
    "pooling": (lambda v: v in POOLINGS, ", ".join(POOLINGS)),
    "seed": (_whole(0), "a whole number from 0"),
    "seeds": (lambda v: _whole(1)(v) and v <= 100, "a whole number from 1 to 100"),
    "resume": (lambda v: isinstance(v, bool), "true or false"),
}
