"""What a family says about its backbones; it knows Hugging Face module paths, never methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..registry import Registry
from ..sites import Side, Site, Stack, Tap

SiteRow = tuple[Site, str, Side, int, int]


def _nothing(model: nn.Module) -> None:
    """Most models need no preparation."""


def _as_it_stands(config: PreTrainedConfig) -> Mapping[str, Any]:
    """Most models read the fields of their config as they are."""
    return {}


def _from_zero(config: PreTrainedConfig) -> int:
    """Most models number the tokens of a sequence from 0."""
    return 0


def _size_of_table(config: PreTrainedConfig) -> int:
    """Most models have a table of positions and may use all of it."""
    return int(config.max_position_embeddings)


def _no_stack(model: nn.Module) -> list[nn.Module]:
    """A model whose layers hand on more than states, or take a padded grid, runs whole."""
    return []


def _unscaled(model: nn.Module, states: Tensor) -> Tensor:
    """Most output layers read states as they are."""
    return states


def _no_bias(model: nn.Module) -> Tensor | None:
    """Most output layers are all there is."""
    return None


def _no_positions(model: nn.Module, stack: Stack, positions: Tensor) -> None:
    """Most models take position ids as an argument, or need none."""


@dataclass(frozen=True, slots=True)
class Seq2Seq:
    """What an encoder-decoder has beside an encoder: module paths, and how states become logits.

    `output` is the module of the LM_HEAD tap, a product; it reads `scaled(model, states [.., H])`, and what
    it gives is logits but for `bias(model)` [V]. `place(model, stack, positions [1, T])` tells a stack the
    positions of the tokens that it is about to read. `distances(model, stack)` [1, heads, 1, 2 R + 1] are the
    biases of a stack's self-attention for key minus query from -R to R, where its stacks are as T5's, so
    that their fast path (`fast_text.py`) can run them.
    """

    encoder: str
    decoder: str
    output: str
    scaled: Callable[[nn.Module, Tensor], Tensor] = _unscaled
    bias: Callable[[nn.Module], Tensor | None] = _no_bias
    place: Callable[[nn.Module, Stack, Tensor], None] = _no_positions
    distances: Callable[[nn.Module, Stack], Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """What a family's attention makes of queries, keys and scores beside products, in one layer.

    `scaling` is what scores are multiplied with (None: 1 over the root of a head's width); `bias` [heads, N]
    is then added to those of the distances that were asked for, key minus query. `rotation` are the cosines
    and sines [N, D] by which queries and keys turn at the places that were asked for. A key `window` tokens
    away or more is not seen.
    """

    scaling: float | None = None
    bias: Tensor | None = None
    rotation: tuple[Tensor, Tensor] | None = None
    window: int | None = None


def plain_scores(model: nn.Module, layer: int, distances: Tensor, places: Tensor) -> Scores:
    """Most models have no more than products."""
    return Scores()


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of backbone.

    `taps(config)` lists every tap; `first_position(config)` is the position id of the first token;
    `max_tokens(config)` the longest sequence, special tokens included; `poolings` the ways in which a
    sequence may become one vector, the default first. `padded`: the model has an attention of its own that
    needs a padded grid. `reads` names the fields of a config that the library's forward pass reads, and
    `derived(config)` gives what it takes from others: both make the config's digest. `prepare(model)` is
    called once, before anything is attached. `positions`: whether the model takes `position_ids`.
    `refused_dtypes` maps a number format to the reason why the model cannot run in it. `layers(model)` are
    the encoder's layers, by the numbers of their taps, where each takes the states [1, T, H] of the one below
    as its first argument, gives its own alone, and nothing else passes between them: a pass may begin at any.
    `fast`: its encoder is a sum of tables, called as BERT's or BART's are, below layers that are what their
    sites say, with norms behind their parts or, if it has a FINAL_NORM, before, so that the fast path
    (`plan.py`) can run it; `scores(model, layer, distances, places)`, for that path alone, is what its
    attention does beside products.
    """

    name: str
    taps: Callable[[PreTrainedConfig], list[Tap]]
    reads: tuple[str, ...]
    derived: Callable[[PreTrainedConfig], Mapping[str, Any]] = _as_it_stands
    poolings: tuple[str, ...] = ("unit", "mean", "first")
    first_position: Callable[[PreTrainedConfig], int] = _from_zero
    max_tokens: Callable[[PreTrainedConfig], int] = _size_of_table
    padded: bool = False
    positions: bool = True
    prepare: Callable[[nn.Module], None] = _nothing
    seq2seq: Seq2Seq | None = None
    refused_dtypes: tuple[tuple[str, str], ...] = ()
    layers: Callable[[nn.Module], list[nn.Module]] = _no_stack
    fast: bool = False
    scores: Callable[[nn.Module, int, Tensor, Tensor], Scores] = plain_scores


FAMILIES: Registry[Family] = Registry("family")


def attention(wide: int, inner: int, norm: str, query: str, key: str, value: str, out: str) -> list[SiteRow]:
    """An attention sublayer by the paths of its modules; `inner` is the width of all its heads together."""
    return [
        (Site.ATTN_Q, query, "out", wide, inner),
        (Site.ATTN_K, key, "out", wide, inner),
        (Site.ATTN_V, value, "out", wide, inner),
        (Site.ATTN_CONTEXT, out, "in", inner, wide),
        (Site.ATTN_OUT, out, "out", inner, wide),
        (Site.ATTN_NORM, norm, "out", wide, wide),
    ]


def feed_forward(wide: int, inner: int, norm: str, up: str, down: str) -> list[SiteRow]:
    """A feed-forward sublayer by the paths of its modules; `inner` is the width behind `up`."""
    return [
        (Site.FFN_UP, up, "out", wide, inner),
        (Site.FFN_INNER, down, "in", inner, wide),
        (Site.FFN_OUT, down, "out", inner, wide),
        (Site.FFN_NORM, norm, "out", wide, wide),
    ]


def layout(stack: Stack, layer: int, prefix: str, rows: Sequence[SiteRow]) -> list[Tap]:
    """The taps of one layer: `prefix` is the layer's module path, each row a site below it."""
    return [Tap(site, stack, layer, f"{prefix}.{path}", side, i, o) for site, path, side, i, o in rows]
