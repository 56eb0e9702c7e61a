"""Sites: the closed vocabulary of places in a transformer where an adapter may act.

Families say where their sites are, methods say which sites they act on; neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Stack = Literal["encoder", "decoder", "cross"]
Side = Literal["in", "out"]


class Site(StrEnum):
    """A named place. Widths: H hidden, F feed-forward, T tokens."""

    EMBED = "embed"  # embedding output, after its norm            [T, H]
    ATTN_Q = "attn_q"  # query projection output                   [T, H]
    ATTN_K = "attn_k"  # key projection output                     [T, H]
    ATTN_V = "attn_v"  # value projection output                   [T, H]
    ATTN_CONTEXT = "attn_context"  # heads concatenated, before the output projection [T, H]
    ATTN_OUT = "attn_out"  # attention sublayer output, before the residual add       [T, H]
    ATTN_NORM = "attn_norm"  # the norm of the attention sublayer  [T, H]
    FFN_UP = "ffn_up"  # first feed-forward projection output      [T, F]
    FFN_INNER = "ffn_inner"  # activation, before the second projection               [T, F]
    FFN_OUT = "ffn_out"  # feed-forward sublayer output, before the residual add      [T, H]
    FFN_NORM = "ffn_norm"  # the norm of the feed-forward sublayer [T, H]


NORM_SITES = frozenset({Site.ATTN_NORM, Site.FFN_NORM})


@dataclass(frozen=True, slots=True)
class Tap:
    """One site in one layer of one backbone: where to act, and how wide it is there.

    `path` is the dotted path of the module in the Hugging Face model, `side` says whether its input
    or its output is transformed, `columns` is the part of a fused projection that the site covers.
    """

    site: Site
    stack: Stack
    layer: int
    path: str
    side: Side
    dim_in: int
    dim_out: int
    columns: tuple[int, ...] | None = None

    @property
    def key(self) -> str:
        """The name used in adapter files, for example `encoder.3.attn_context`."""
        return f"{self.stack}.{self.layer}.{self.site}"

    @property
    def width(self) -> int:
        """Width of the tensor that is transformed: the module's input or its output."""
        return self.dim_in if self.side == "in" else self.dim_out
