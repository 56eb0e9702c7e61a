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
    """A named place. Widths: E embedding, H hidden, F feed-forward, V vocabulary, T tokens."""

    EMBED = "embed"  # word embedding, before positions and norm   [T, E]
    ATTN_Q = "attn_q"  # query projection output                   [T, H]
    ATTN_K = "attn_k"  # key projection output                     [T, H]
    ATTN_V = "attn_v"  # value projection output                   [T, H]
    ATTN_CONTEXT = "attn_context"  # heads concatenated, before the output projection [T, H]
    ATTN_OUT = "attn_out"  # attention sublayer output, before the residual add       [T, H]
    ATTN_NORM = "attn_norm"  # the norm of the attention sublayer  [T, H]
    FFN_UP = "ffn_up"  # first feed-forward projection output      [T, F]
    FFN_GATE = "ffn_gate"  # second first projection of a gated feed-forward          [T, F]
    FFN_INNER = "ffn_inner"  # activation, before the second projection               [T, F]
    FFN_OUT = "ffn_out"  # feed-forward sublayer output, before the residual add      [T, H]
    FFN_NORM = "ffn_norm"  # the norm of the feed-forward sublayer [T, H]
    FINAL_NORM = "final_norm"  # the last norm of a pre-norm stack [T, H]
    LM_HEAD = "lm_head"  # output layer of an encoder-decoder      [T, V]


NORM_SITES = frozenset({Site.ATTN_NORM, Site.FFN_NORM})
ALL_NORM_SITES = NORM_SITES | {Site.FINAL_NORM}
STACK_SITES = frozenset({Site.EMBED, Site.FINAL_NORM, Site.LM_HEAD})  # once per stack, in no layer


@dataclass(frozen=True, slots=True)
class Tap:
    """One site in one layer of one backbone: where to act, and how wide it is there.

    `path` is the dotted path of the module in the Hugging Face model, `side` says whether its input
    or its output is transformed, `columns` is the part of a fused projection that the site covers
    (`dim_out` is then their number).
    """

    site: Site
    stack: Stack
    layer: int
    path: str
    side: Side
    dim_in: int
    dim_out: int
    columns: tuple[int, ...] | None = None

    def __hash__(self) -> int:
        """Of what tells nearly all taps apart: it is asked for at every tap of every pass."""
        return hash((self.path, self.side))

    @property
    def key(self) -> str:
        """The name used in adapter files: `encoder.3.attn_context`, `encoder.final_norm`."""
        if self.site in STACK_SITES:
            return f"{self.stack}.{self.site}"
        return f"{self.stack}.{self.layer}.{self.site}"

    @property
    def width(self) -> int:
        """Width of the tensor that is transformed: the module's input or its output."""
        return self.dim_in if self.side == "in" else self.dim_out

    @property
    def reads_source(self) -> bool:
        """Whether the tokens here are the encoder's: its sites, and keys and values of cross-attention."""
        return self.stack == "encoder" or (self.stack == "cross" and self.site in (Site.ATTN_K, Site.ATTN_V))
