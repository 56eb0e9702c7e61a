"""A training run as it was asked for, and how its gaps are filled.

`TrainConfig` is what the user asked for (None = "you choose"); `Hyper` is what the run does, with no gaps
left. Only `run.py` reads these; everything below it takes plain values. What a setting is and may be
is in `declared.py`, the numbers of each method in `defaults.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Never

from training.errors import ConfigError
from training.settings.checks import BUDGET, TEXT_TO_TEXT, problems_of, seconds_of
from training.settings.compacter_recipe import Occasion, recipe
from training.settings.declared import Numbers, Purpose, Repeats
from training.settings.defaults import defaults_for


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Repeats, Numbers[None], Purpose):  # fields in the order of documents: the last base first
    """What to train, on what, how, and where the file goes.

    Raises:
        ConfigError: a value is outside its limits, or two values contradict each other; all problems at once.
    """

    def __post_init__(self) -> None:
        problems = problems_of(fields(self), vars(self))
        if problems:
            raise ConfigError("; ".join(problems))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: tuples are lists."""
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
        return Path(self.out) if self.out is not None else Path(f"{self.task}.safetensors")

    @property
    def budget_s(self) -> float:
        """Seconds that a search may take."""
        return seconds_of(self.budget or BUDGET)

    def all_seeds(self) -> range:
        return range(self.seed, self.seed + self.seeds)

    def with_seed(self, seed: int) -> "TrainConfig":
        return replace(self, seed=seed, seeds=1)


@dataclass(frozen=True)
class Situation(Occasion):
    """What is known once data and backbone are loaded: what decides a recipe's numbers, and limits.

    `positions` is the backbone's limit in tokens, of which `virtual_tokens` are taken by the method.
    """

    positions: int
    virtual_tokens: int
    poolings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Hyper(Numbers[Never]):
    """The numbers of a run with every gap filled from the method's row in `defaults.py` or from a recipe."""

    method_config: Mapping[str, Any]

    def warmup_for(self, num_steps: int) -> float:
        """Share of `num_steps` steps in which the rate of stage two rises."""
        if self.warmup_steps == 0:
            return self.warmup
        return min(1.0, self.warmup_steps / max(1, num_steps))

    def evaluate_every(self, steps_per_epoch: int) -> int:
        """Epochs from one evaluation to the next."""
        return max(1, math.ceil(self.evaluate_steps / max(1, steps_per_epoch)))


def resolve(config: TrainConfig, situation: Situation | None = None) -> Hyper:
    """Fill the gaps of `config`: from its recipe, then from the row of its method.

    Without a `situation` what depends on data and backbone (a recipe, the limits) is left out.
    """
    row = defaults_for(config.method)
    filled = {f.name: f.metadata["fallback"] for f in fields(Numbers)} | _said(row)
    if row.published is not None and (config.form == TEXT_TO_TEXT or config.recipe == "compacter"):
        filled["lr"] = row.published.lr_for(config.method_config)
    if situation is not None:
        if row.epochs is None:
            filled["epochs"] = epochs_for(situation.num_train)
        filled |= _fitting(config, filled, situation)
    given = _said(config)
    if "warmup" in given:
        given.setdefault("warmup_steps", 0)
    filled |= given
    if config.form == TEXT_TO_TEXT:  # there is no head: nothing of it is trained or pooled
        filled |= {"fit_head": False, "train_head": False, "pooling": "none"}
    return Hyper(**filled, method_config=dict(config.method_config))


_EPOCHS = ((200, 20), (400, 10), (2500, 4), (4000, 3))


def epochs_for(num_train: int) -> int:
    """Passes over so many rows: some 100 to 200 steps where they are few, and never fewer than 2 passes."""
    return next((epochs for rows, epochs in _EPOCHS if num_train <= rows), 2)


def _literal(situation: Situation) -> dict[str, Any]:
    """The Hadamard paper's two stages: the classifier alone on the model's own pooling, then the adapter and
    the norm under that classifier, as it is. Its numbers are not published (reference: section 3)."""
    own = [pooling for pooling in ("pooler", "first") if pooling in situation.poolings]
    pooled = {"pooling": own[0]} if own else {}
    return {"train_head": False, "head_start": 1.0, "refit": "none", "epochs": 5, **pooled}


def _said(numbers: Numbers[None]) -> dict[str, Any]:
    return {f.name: v for f in fields(Numbers) if (v := getattr(numbers, f.name)) is not None}


def _fitting(config: TrainConfig, filled: Mapping[str, Any], situation: Situation) -> dict[str, Any]:
    """What the recipe says, and defaults that the backbone can take."""
    fitted: dict[str, Any] = {}
    if config.recipe == "compacter":
        fitted |= {**recipe(situation), "lr_head_stage2": filled["lr"], "patience": None}
    if config.recipe == "hadamard":
        fitted |= _literal(situation)
    tokens = fitted.get("max_tokens", filled["max_tokens"])
    fitted["max_tokens"] = min(tokens, situation.positions - situation.virtual_tokens)
    if filled["pooling"] not in situation.poolings and situation.poolings:
        fitted["pooling"] = situation.poolings[0]
    return fitted
