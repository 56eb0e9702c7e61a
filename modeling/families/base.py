"""What a family says about its backbones; it knows Hugging Face module paths, never methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedConfig

from ..registry import Registry
from ..sites import Side, Site, Stack, Tap

SiteRow = tuple[Site, str, Side, int, int]


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of backbone.

    `taps(config)` lists every tap; `norm` says where its norms stand; `first_position(config)` is the
    position id of the first token; `max_tokens(config)` the longest sequence, special tokens included;
    `poolings` the ways in which a sequence may become one vector, the default first.
    """

    name: str
    norm: Literal["pre", "post"]
    taps: Callable[[PreTrainedConfig], list[Tap]]
    first_position: Callable[[PreTrainedConfig], int]
    max_tokens: Callable[[PreTrainedConfig], int]
    poolings: tuple[str, ...]


FAMILIES: Registry[Family] = Registry("family")


def layout(stack: Stack, layer: int, prefix: str, rows: Sequence[SiteRow]) -> list[Tap]:
    """The taps of one layer: `prefix` is the layer's module path, each row a site below it."""
    return [Tap(site, stack, layer, f"{prefix}.{path}", side, i, o) for site, path, side, i, o in rows]
