"""What the lab tries: a method, its rate and its layers. A table and its order; no work."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from modeling import METHODS
from training.settings.config import TrainConfig, resolve

HEAD_ALONE = "linear_probe"
METHODS_TRIED = ("hadamard", "lora", "pfeiffer", "ia3", "ln_tuning", "bitfit", "houlsby", "compacter_pp")
"""In this order: where time is short, the last are left out."""
UPPER = "last-two-thirds"
RATES = (1.0, 1 / 3, 3.0)
"""Times a method's default."""


@dataclass(frozen=True)
class Arm:
    """A way to train; without a rate it is the head alone."""

    method: str
    lr: float | None = None
    layers: str | None = None

    @property
    def name(self) -> str:
        told = [self.method, "" if self.lr is None else f"{self.lr:g}", self.layers or ""]
        return " ".join(part for part in told if part)

    @property
    def method_config(self) -> Mapping[str, Any]:
        return {} if self.layers is None else {"layers": self.layers}

    def applied(self, config: TrainConfig) -> TrainConfig:
        """The run of this arm alone, as a person would ask for it."""
        return _named(config, self.method, self.method_config, self.lr)


def arms_for(config: TrainConfig, *, layered: bool) -> list[Arm]:
    """All arms, the likeliest first: default rates, then fewer layers, then other rates.

    `layered`: whether the upper two thirds are other layers than all.
    """
    found = []
    for times in RATES:
        for layers in ("all", UPPER) if layered else ("all",):
            for method in METHODS_TRIED:
                chosen = layers if "layers" in {f.name for f in fields(METHODS[method])} else None
                rate = resolve(_named(config, method, {}, None)).lr * times
                found.append(Arm(method, float(f"{rate:.3g}"), chosen))
    return list(dict.fromkeys(found))


def _named(
    config: TrainConfig, method: str, method_config: Mapping[str, Any], lr: float | None
) -> TrainConfig:
    return replace(config, method=method, method_config=dict(method_config), lr=lr, budget=None)
