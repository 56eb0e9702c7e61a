"""What options of methods may be: an option's annotation is its check and its line in the documentation.

A flag is a `bool`, a choice a `Literal`, a `float` a number above 0, an `int` a whole number from 1 on unless
it is marked with other bounds (`Annotated[int, Whole(0)]`); `Layers` are some of a backbone's layers. A text
in an annotation says what the type does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from ..errors import MethodError
from ..sites import STACK_SITES, Tap

Layers = Annotated[
    str | int | Sequence[int],
    "`all`, `last-two-thirds`, a range `4-11`, several `0,2,4-7`, a list `[0, 2]`",
]
MAX_LAYERS = 1000  # no backbone is deeper; a file must not make a reader count further
_LISTED = 8
LAYER_PRESETS: dict[str, Callable[[int], range]] = {
    "all": range,
    "last-two-thirds": lambda n: range(n - (2 * n + 2) // 3, n),
}


@dataclass(frozen=True, slots=True)
class Whole:
    """The bounds of a whole number, both included."""

    least: int = 1
    most: int | None = None

    def __str__(self) -> str:
        if self.most is not None:
            return f"allowed: {self.least} to {self.most}"
        return f"it must be a whole number, {self.least} or more"


def check_option(method: str, option: str, hint: Any, value: Any) -> None:
    """Raise MethodError unless `value` is what the annotation `hint` asks for."""
    if hint == Layers:
        _check_layers(method, value)
    elif wanted := _refusal(hint, value):
        raise MethodError(f"method {method}: {option} is {value!r}; {wanted}")


def _refusal(hint: Any, value: Any) -> str:
    """What the option must be; nothing if the value is that."""
    kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(kind) is Literal:
        return "" if value in get_args(kind) else f"allowed: {', '.join(get_args(kind))}"
    if kind is bool:
        return "" if type(value) is bool else "it must be true or false"
    if kind is float:
        positive = type(value) in (int, float) and 0 < value < math.inf
        return "" if positive else "it must be a number above 0"
    if value is None and type(None) in get_args(kind):
        return ""
    bounds = next((mark for mark in marks if isinstance(mark, Whole)), Whole())
    most = math.inf if bounds.most is None else bounds.most
    return "" if type(value) is int and bounds.least <= value <= most else str(bounds)


def select_layers(layers: Layers, num_layers: int) -> frozenset[int]:
    """Layer numbers meant by a list, a range (`4-11`), a number or a preset (`all`, `last-two-thirds`).

    Raises MethodError for anything else and for layers that the backbone does not have.
    """
    if isinstance(layers, str) and layers in LAYER_PRESETS:
        return frozenset(LAYER_PRESETS[layers](num_layers))
    chosen = _parse_layers(layers)
    beyond = sorted(i for i in chosen if not 0 <= i < num_layers)
    if beyond or not chosen:
        more = f" and {len(beyond) - _LISTED} more" if len(beyond) > _LISTED else ""
        listed = ", ".join(map(str, beyond[:_LISTED])) + more
        raise MethodError(
            f"layers {layers!r}: this backbone has layers 0 to {num_layers - 1}, "
            + (f"not {listed}" if beyond else "and at least one must be chosen")
        )
    return chosen


def in_layers(taps: Sequence[Tap], layers: Layers) -> list[Tap]:
    """The taps that lie in the chosen layers, stack by stack; those of a whole stack (final norms) stay."""
    counts: dict[str, int] = {}
    layered = [tap for tap in taps if tap.site not in STACK_SITES]
    for tap in layered:
        counts[tap.stack] = max(counts.get(tap.stack, 0), tap.layer + 1)
    chosen = {stack: select_layers(layers, count) for stack, count in counts.items()}
    return [tap for tap in taps if tap.site in STACK_SITES or tap.layer in chosen[tap.stack]]


def _check_layers(method: str, layers: Layers) -> None:
    try:
        if not (isinstance(layers, str) and layers in LAYER_PRESETS):
            _parse_layers(layers)
    except MethodError as error:
        raise MethodError(f"method {method}: {error}") from error


def _parse_layers(layers: Layers) -> frozenset[int]:
    if isinstance(layers, int) and not isinstance(layers, bool):
        return frozenset({layers})
    if isinstance(layers, str):
        return frozenset(i for part in layers.split(",") for i in _parse_range(part.strip(), layers))
    if isinstance(layers, (list, tuple)) and all(type(i) is int for i in layers):
        if len(set(layers)) < len(layers):
            raise MethodError(f"layers {list(layers)}: a layer is named twice; name each once")
        return frozenset(layers)
    raise _layers_error(layers)


def _parse_range(part: str, layers: str) -> range:
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
    if match is None:
        raise _layers_error(layers)
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < MAX_LAYERS:
        raise _layers_error(layers)
    return range(first, last + 1)


def _layers_error(layers: object) -> MethodError:
    presets = ", ".join(LAYER_PRESETS)
    shown = repr(layers) if len(repr(layers)) <= 80 else repr(layers)[:80] + "…"
    return MethodError(f"layers {shown}: give a list [0, 1], a range '4-11', '0,2,4-7' or one of {presets}")
