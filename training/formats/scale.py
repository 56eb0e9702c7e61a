"""Numbers as classes: evenly spaced values with their strings, so that text can answer a regression."""

import math
from dataclasses import dataclass
from functools import cached_property

_MOST_CLASSES = 32
_STEPS_PER_DECADE = (5, 2, 1)


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`, `per_unit` of them to a unit (5 = steps of 0.2; 0.5 = steps of 2)."""

    low: float
    high: float
    per_unit: float

    def index(self, number: float) -> int:
        """The class nearest to `number` (half to even, as in the official code), kept to the range."""
        return min(max(round(number * self.per_unit), self._first), self._last) - self._first

    @cached_property
    def values(self) -> tuple[float, ...]:
        """The number that each class means."""
        return tuple(step / self.per_unit for step in range(self._first, self._last + 1))

    @cached_property
    def strings(self) -> tuple[str, ...]:
        """How each class is written, with as many decimals as the steps need, and one at least."""
        decimals = max(1, math.ceil(math.log10(self.per_unit)))
        return tuple(f"{value:.{decimals}f}" for value in self.values)

    @property
    def _first(self) -> int:
        return round(self.low * self.per_unit)

    @property
    def _last(self) -> int:
        return round(self.high * self.per_unit)


def scale_for(low: float, high: float) -> Scale:
    """The finest scale of steps 1, 2 or 5 times a power of ten with at most 32 classes; 0 to 5 gives 0.2."""
    decade = 6 - math.floor(math.log10(max(high - low, 1e-6)))
    while True:
        for step in _STEPS_PER_DECADE:
            scale = Scale(low, high, step * 10.0**decade)
            if round(high * scale.per_unit) - round(low * scale.per_unit) < _MOST_CLASSES:
                return scale
        decade -= 1
