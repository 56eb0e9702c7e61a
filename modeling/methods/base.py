"""What a method is; it knows sites, never families."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, get_type_hints

from torch import nn

from ..errors import MethodError
from ..ops import TapModule
from ..registry import Registry
from ..sites import Site, Tap
from ..weights import Named
from .exclusive import Weights
from .options import Layers, check_option, in_layers

Shared = Mapping[str, nn.Parameter]


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to adapt; the fields of a subclass, a frozen dataclass, are its options (see `options.py`).

    `select` picks the taps it acts on, by default those at its `sites`; `build` makes the training form at
    one of them with the paper's initial values. A method without a per-row form changes the backbone's own
    `weights`, and its rows run alone (it is exclusive). `paper` is the source.
    """

    name: ClassVar[str]
    paper: ClassVar[str]

    def __post_init__(self) -> None:
        for option, hint in self.options().items():
            check_option(self.name, option, hint, getattr(self, option))

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Names and annotations of its options."""
        hints = get_type_hints(cls, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The method with these options. Raises MethodError for unknown keys and bad values."""
        unknown = sorted(set(config) - set(cls.options()))
        if unknown:
            allowed = ", ".join(sorted(cls.options())) or "none"
            raise MethodError(
                f"method {cls.name}: unknown option {', '.join(unknown)}; its options are: {allowed}"
            )
        return cls(**config)

    def config(self) -> dict[str, Any]:
        """The options as plain JSON data: what `from_config` takes."""
        plain = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @property
    def sites(self) -> frozenset[Site]:
        return frozenset()

    @property
    def layers(self) -> Layers:
        """In which layers; an option of most methods."""
        return "all"

    @property
    def virtual_tokens(self) -> int:
        """Virtual tokens in front of every text."""
        return 0

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """The taps that it acts on. Raises MethodError if the backbone lacks the layers."""
        return in_layers([tap for tap in taps if tap.site in self.sites], self.layers)

    def share(self, taps: Sequence[Tap]) -> dict[str, nn.Parameter]:
        """Parameters that all of the selected taps use (`shared/<name>` in the file)."""
        return {}

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> TapModule:
        """The training form at `tap`, beside the frozen module there. Raises MethodError if it cannot fit.

        Its own named parameters are its tensors in the file; it keeps shared ones out of them.
        """
        raise AssertionError(f"{self.name} acts on no tap: this is a bug")

    def weights(self, model: Named) -> Weights | None:
        """What the backbone's weights become. Raises MethodError if that cannot be."""
        return None


METHODS: Registry[type[Method]] = Registry("method")
