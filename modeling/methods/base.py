"""What a method is, and what all configurations of methods share; it knows sites, never families."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn

from ..errors import MethodError
from ..ops import PackedTap
from ..registry import Registry
from ..sites import STACK_SITES, Tap

Layers = str | int | Sequence[int]
Shared = Mapping[str, nn.Parameter]
MAX_LAYERS = 1000  # no backbone is deeper; a file must not make a reader count further
_LISTED = 8
LAYER_PRESETS: dict[str, Callable[[int], range]] = {
    "all": range,
    "last-two-thirds": lambda n: range(n - (2 * n + 2) // 3, n),
}


class Method(Protocol):
    """A way to adapt. An instance is a frozen dataclass: its fields are the method's configuration.

    `select` picks the taps it acts on, `build` makes the training form at one of them with the paper's
    initial values, `pack` turns that into parameters of a row op. `paper` is the source. What most methods
    do not need, `register` supplies: `share`, `virtual_tokens` (0) and `exclusive` (False; see
    `exclusive.py`).
    """

    name: ClassVar[str]
    paper: ClassVar[str]

    @property
    def exclusive(self) -> bool:
        """Whether it has no per-row form: it changes the backbone's weights, so its rows run alone."""

    @property
    def virtual_tokens(self) -> int:
        """Virtual tokens in front of every text."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Method:
        """The method with these options. Raises MethodError."""

    def config(self) -> dict[str, Any]:
        """The options as plain JSON data."""

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """The taps that it acts on."""

    def share(self, taps: Sequence[Tap]) -> dict[str, nn.Parameter]:
        """Parameters that all of the selected taps use (`shared/<name>` in the file)."""

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """The training form at `tap`, beside the frozen module there. Raises MethodError if it cannot fit.

        Its own named parameters are its tensors in the file; it keeps shared ones out of them.
        """

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """The serving form of what `build` made."""


METHODS: Registry[type[Method]] = Registry("method")
M = TypeVar("M")


def from_config(cls: type[M], config: Mapping[str, Any]) -> M:
    """Build the method `cls` from plain data. Raises MethodError for unknown keys and bad values."""
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # checked by register
    unknown = sorted(set(config) - fields)
    name = getattr(cls, "name", cls.__name__)
    if unknown:
        allowed = ", ".join(sorted(fields)) or "none"
        raise MethodError(f"method {name}: unknown option {', '.join(unknown)}; its options are: {allowed}")
    try:
        return cls(**config)
    except TypeError as error:
        raise MethodError(f"method {name}: {error}") from error


def plain_config(method: Any) -> dict[str, Any]:
    """The method's fields as plain JSON data: what `from_config` takes."""
    plain = dataclasses.asdict(method)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}


def _share_nothing(method: Any, taps: Sequence[Tap]) -> dict[str, nn.Parameter]:
    return {}


_SUPPLIED: dict[str, Any] = {"share": _share_nothing, "virtual_tokens": 0, "exclusive": False}


def register(cls: type[M]) -> type[M]:
    """Class decorator: enter a frozen dataclass as a method and supply what it leaves out."""
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls.__name__} must be a frozen dataclass to be a method")
    cls.from_config = classmethod(from_config)  # type: ignore[attr-defined]
    cls.config = plain_config  # type: ignore[attr-defined]
    for name, value in _SUPPLIED.items():
        if not hasattr(cls, name):
            setattr(cls, name, value)
    METHODS.register(cls.name)(cls)  # type: ignore[attr-defined, arg-type]
    return cls


def one_of(method: str, option: str, value: str, allowed: Iterable[str]) -> None:
    """Raise MethodError unless `value` is one of `allowed`."""
    if value not in tuple(allowed):
        raise MethodError(f"method {method}: {option} is {value!r}; allowed: {', '.join(allowed)}")


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


def check_layers(method: str, layers: Layers) -> None:
    """Raise MethodError unless `layers` has a form that `select_layers` understands."""
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


def in_layers(taps: Sequence[Tap], layers: Layers) -> list[Tap]:
    """The taps that lie in the chosen layers, stack by stack; those of a whole stack (final norms) stay."""
    counts: dict[str, int] = {}
    layered = [tap for tap in taps if tap.site not in STACK_SITES]
    for tap in layered:
        counts[tap.stack] = max(counts.get(tap.stack, 0), tap.layer + 1)
    chosen = {stack: select_layers(layers, count) for stack, count in counts.items()}
    return [tap for tap in taps if tap.site in STACK_SITES or tap.layer in chosen[tap.stack]]
