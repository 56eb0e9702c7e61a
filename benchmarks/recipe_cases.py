"""The recipes of stage two that `benchmarks.recipe` compares, and on what. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.draws import Case


@dataclass(frozen=True)
class Recipe:
    """How stage two goes.

    It starts from `start` times the fitted head (0: from nought) or, with `strength`, from a head fitted
    with that C. The head keeps the decay that it was fitted with, times `head_decay`; at a `head_lr` of 0
    it stays as it is.
    """

    method: str = "hadamard"
    lr: float = 1e-2
    epochs: int = 3
    start: float = 0.3
    strength: float | None = None
    head_lr: float = 1e-2
    head_decay: float = 1.0
    batch_size: int = 32
    norm: str | None = None
    layers: tuple[int, ...] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Of the method, where they are not its defaults."""
        given = {"norm": self.norm, "layers": None if self.layers is None else list(self.layers)}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def begins(self) -> str:
        """What its head is at the start of stage two."""
        if self.strength is not None:
            return f"head of C {self.strength:g}"
        return f"head times {self.start:g}" if self.start else "head of zeros"

    @property
    def parts(self) -> tuple[str, ...]:
        """All of it in words; what is as usual is left out."""
        told = [f"{self.method} at {self.lr:g}", self.begins]
        told.append("1 epoch" if self.epochs == 1 else f"{self.epochs} epochs")
        if self.head_lr != Recipe.head_lr:
            told.append(f"head at {self.head_lr:g}" if self.head_lr else "head frozen")
        told += ["head without decay"] if self.head_decay == 0 else []
        told += [f"batches of {self.batch_size}"] if self.batch_size != Recipe.batch_size else []
        told += [] if self.norm is None else [f"norm {self.norm}"]
        told += [] if self.layers is None else [f"last {len(self.layers)} layers"]
        return tuple(told)

    @property
    def name(self) -> str:
        """Of its contender in the result file."""
        return ", ".join(self.parts)

    def beside(self, other: "Recipe") -> str:
        """What it has that the other has not."""
        return ", ".join(part for part in self.parts if part not in other.parts) or "as usual"


@dataclass(frozen=True)
class Comparison:
    """Recipes on the same cases and seeds; one of them is the usual one, which others differ from.

    `by_rate` differ from it in method and rate alone.
    """

    title: str
    cases: tuple[Case, ...]
    seeds: range
    usual: Recipe
    others: tuple[Recipe, ...]
    by_rate: tuple[Recipe, ...] = ()

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        return self.usual, *self.others, *self.by_rate

    @property
    def starts(self) -> list[Recipe]:
        """Those that differ in the head they start from, and in nothing else."""
        start, strength = self.usual.start, self.usual.strength
        return [one for one in self.recipes if replace(one, start=start, strength=strength) == self.usual]

    @property
    def rates(self) -> list[Recipe]:
        """Methods and their rates, the usual one among them."""
        return sorted((self.usual, *self.by_rate), key=lambda one: (one.method, one.lr))

    @property
    def changes(self) -> list[Recipe]:
        """The usual one and those that differ from it otherwise than by a start, or a method at a rate."""
        return [self.usual, *(one for one in self.others if one not in self.starts)]


def _case(data: str, rows: int = 0, per_class: int = 0, metric: str = "accuracy") -> Case:
    name = f"{data}, {rows} rows" if rows else f"{data}, {per_class} a class"
    return Case(name, data, rows, per_class, metric, tests=("validation",), max_test_rows=800)


_SOFT = Recipe(strength=1.0)  # what the first two comparisons began with
_FEW = replace(_SOFT, epochs=20)
_THREE, _FOUR = (3, 4, 5), (2, 3, 4, 5)
FEW_ROWS = Comparison(
    "Few rows",
    (
        _case("stackoverflow20", per_class=8),
        _case("ag_news_small", per_class=8),
        _case("review_sentences", per_class=8),
        _case("review_sentences", per_class=16),
        _case("sms_spam", per_class=8),
        _case("sst2", per_class=16),
    ),
    range(3),
    _FEW,
    (
        *(replace(_FEW, strength=strength) for strength in (0.1, 0.3, 3.0)),
        *(replace(_FEW, strength=None, start=start) for start in (0.3, 0.0)),
        *(replace(_FEW, lr=lr) for lr in (3e-3, 2e-2)),
        *(replace(_FEW, epochs=epochs) for epochs in (10, 40)),
        replace(_FEW, epochs=10, batch_size=16),
        replace(_FEW, head_lr=0.0),
        replace(_FEW, norm="both"),
        replace(_FEW, layers=_FOUR),
        replace(_FEW, method="lora", lr=3e-3),
    ),
)
MORE_ROWS = Comparison(
    "500 to 3,000 rows",
    (
        _case("banking77", 1000),
        _case("banking77", 3000),
        _case("hwu64", 1000),
        _case("trec", 1000),
        _case("goemotions", 2000),
        _case("sst2", 500),
        _case("sst2", 2000),
    ),
    range(3),
    _SOFT,
    (
        *(replace(_SOFT, strength=strength) for strength in (0.3, 3.0, 10.0)),
        Recipe(),
        *(replace(_SOFT, lr=lr) for lr in (3e-3, 2e-2)),
        *(replace(_SOFT, lr=2e-2, epochs=epochs) for epochs in (1, 2)),
        replace(_SOFT, epochs=5),
        replace(_SOFT, head_lr=0.0),
        replace(_SOFT, head_lr=3e-2),
        replace(_SOFT, norm="both"),
        *(replace(_SOFT, layers=layers) for layers in (_THREE, _FOUR)),
    ),
)
RATES: Mapping[str, tuple[float, ...]] = {
    "adapter_drop": (3e-3, 1e-2),
    "bitfit": (3e-3, 1e-2),
    "compacter": (3e-3, 1e-2),
    "compacter_pp": (3e-3, 1e-2),
    "full": (3e-5, 1e-4, 3e-4),
    "hadamard": (5e-3, 2e-2),  # 1e-2 is the usual recipe
    "houlsby": (1e-3, 3e-3),
    "ia3": (1e-2, 3e-2),
    "ln_tuning": (5e-3, 1e-2),
    "lora": (1e-3, 3e-3, 1e-2),
    "low_rank_adapter": (3e-3, 1e-2),
    "pfeiffer": (1e-3, 3e-3, 1e-2),
    "phm": (3e-3, 1e-2),
}
METHODS_COMPARED = Comparison(
    "1,000 and 2,000 rows, with pairs and acceptability",
    (
        _case("banking77", 1000),
        _case("hwu64", 1000),
        _case("trec", 1000),
        _case("sst2", 1000),
        _case("mrpc", 1000),
        _case("cola", 2000, metric="matthews"),
    ),
    range(2),
    Recipe(),
    (
        *(Recipe(start=start) for start in (0.1, 0.2, 0.5)),
        *(Recipe(epochs=epochs) for epochs in (2, 5)),
        Recipe(head_lr=0.0),
        Recipe(head_lr=3e-2),
        Recipe(head_decay=0.0),
        Recipe(batch_size=16),
        Recipe(norm="both"),
        Recipe(layers=_FOUR),
    ),
    tuple(Recipe(method=method, lr=lr) for method, rates in RATES.items() for lr in rates),
)
COMPARISONS = (FEW_ROWS, MORE_ROWS, METHODS_COMPARED)
