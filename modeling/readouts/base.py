"""What a readout is: the way from the states of a batch to logits or text. It knows no labels' meaning.

T tokens of a packed batch, B rows of it, H hidden, L logits a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from failures import Failure

from .. import decoding
from ..backbone import Backbone
from ..decoding import Strings
from ..head_bank import HeadBanks
from ..kinds import KINDS, HeadSpec
from ..kinds.base import refused
from ..packed import PackedBatch
from ..registry import Registry
from ..sites import Site, Tap
from ..text import Encoded, EncodedApart, EncodedRow, TextEncoder, TextItem, Tokens

DECODER_KIND = "text_to_text"
"""What files call every task that a decoder answers."""

Logits = npt.NDArray[np.float32]


class Assembler(Protocol):
    """What puts special tokens around ids: a `TextEncoder`, or what stands for one."""

    def assemble(self, tokens: Tokens, max_tokens: int | None = None) -> Encoded: ...


class Cost(NamedTuple):
    """Tokens that the decoder reads to give the logits of one text: so many, and so many per token of it."""

    fixed: int = 0
    per_token: int = 0


@dataclass(frozen=True, slots=True)
class Pass:
    """A batch whose encoder has run: its states [T, H], and the heads of whatever is resident."""

    backbone: Backbone
    batch: PackedBatch
    hidden: Tensor
    heads: HeadBanks


@dataclass(frozen=True, slots=True)
class Reads:
    """What is read of a pass: the sequences `rows[i]` (the caller's numbers) by the adapter in `slots[i]`.

    They are one, or as many as the texts of a row that are encoded apart. `strings[i]` are what a decoder
    scores there, as ids.
    """

    pooling: str
    rows: Sequence[Sequence[int]]
    slots: Sequence[int]
    strings: Sequence[Strings]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What rows should be answered: targets as the kind stacks them, class weights, and the right strings.

    `strings` are ids with their end, one for each row, where a decoder is to write them.
    """

    targets: Tensor
    weights: Tensor | None = None
    strings: Strings = ()

    def take(self, rows: Sequence[int]) -> Wanted:
        index = torch.as_tensor(rows, device=self.targets.device)
        return Wanted(self.targets[index], self.weights, [self.strings[r] for r in rows if self.strings])

    def on_cpu(self) -> Wanted:
        return Wanted(self.targets.cpu(), None if self.weights is None else self.weights.cpu(), self.strings)


class Readout(ABC):
    """One way to read a task's answer off a backbone.

    `file_kind` is what files call every kind that is read so; None: each by its own name. With `has_head` the
    adapter brings a linear layer [L, F] on F numbers, H unless `width` says otherwise. `writes`: the answer
    is a text. `apart`: of a pair, each text is a sequence of its own; `pairs`: nothing but pairs can be read;
    `embeds`: a text alone is answered with its embedding [H]. `reads_words`: a row has L logits for each of
    its words, so that rows differ in length, and what is encoded for it knows its words.
    """

    name: ClassVar[str]
    file_kind: ClassVar[str | None] = None
    has_head: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    apart: ClassVar[bool] = False
    pairs: ClassVar[bool] = False
    embeds: ClassVar[bool] = False

    @property
    def decodes(self) -> bool:
        """Whether a decoder answers."""
        return self.file_kind == DECODER_KIND

    reads_words: ClassVar[bool] = False

    def reads(self, spec: HeadSpec) -> bool:
        """Whether a task of this spec is answered so."""
        return spec.kind in KINDS and KINDS[spec.kind].readout == self.name and self.file_kind is None

    def kind(self, spec: HeadSpec) -> str:
        """What the logits mean: the name of a kind."""
        return spec.kind

    def check(self, spec: HeadSpec) -> list[Failure]:
        """Everything in a spec that cannot be answered so, on whatever backbone."""
        failures = self.check_kind(spec)
        if (spec.pooling == "none") == self.has_head:
            allowed = "A pooling for the head" if self.has_head else "none: a text_to_text has no head"
            failures.append(refused("pooling", spec.pooling, allowed))
        return failures

    def check_kind(self, spec: HeadSpec) -> list[Failure]:
        """As far as its meaning goes."""
        return KINDS[self.kind(spec)].check(spec)

    def check_backbone(self, spec: HeadSpec, backbone: Backbone) -> list[Failure]:
        """What this backbone lacks for it."""
        if backbone.is_encoder_decoder:
            return []
        remedy = "use a T5 or BART backbone, or another kind of task."
        return [Failure("head.kind", DECODER_KIND, f"heads, as {backbone.name} has no decoder", remedy)]

    def passes(self, tap: Tap) -> bool:
        """Whether a task passes this tap: only where a decoder answers, the output layer is read."""
        return self.decodes or tap.site is not Site.LM_HEAD

    @abstractmethod
    def cost(self, spec: HeadSpec, strings: Strings, backbone: Backbone) -> Cost:
        """Of one text on this backbone; `strings` are the labels as ids."""

    def assemble(self, text: Assembler, tokens: Tokens, max_tokens: int | None) -> EncodedRow:
        """What the backbone reads for a text or a pair. Raises TextError as `TextEncoder.assemble`."""
        if not self.apart:
            return text.assemble(tokens, max_tokens)
        return EncodedApart(tuple(text.assemble(one, max_tokens) for one in tokens.apart()))

    def encode(
        self, text: TextEncoder, items: Sequence[TextItem], max_tokens: int | None
    ) -> list[EncodedRow]:
        """Texts and pairs as `assemble` has them."""
        found = text.tokenize(items, words=self.reads_words)
        return [self.assemble(text, tokens, max_tokens) for tokens in found]

    def width(self, hidden_size: int) -> int:
        """F, how many numbers a head reads of a row."""
        return hidden_size

    def features(self, states: Tensor) -> Tensor:
        """What a head reads [M', F], out of the states [M, H] of sequences."""
        return states

    def finds(self, spec: HeadSpec) -> bool:
        """Whether what is measured is how well partners are found among the texts of all rows."""
        return False

    def embeddings(self, backbone: Backbone, batch: PackedBatch, pooling: str) -> Tensor:
        """The training form of what a text alone is answered with [B, H], with whatever is attached."""
        raise TypeError(f"{self.name} gives no embeddings: this is a bug")

    def strings(self, labels: Strings, text: Encoded) -> Strings:
        """What a decoder scores after one text."""
        return labels

    def num_states(self, text: Encoded) -> int:
        """How many states of a text are read."""
        return 1

    def states(self, backbone: Backbone, hidden: Tensor, batch: PackedBatch, pooling: str) -> Tensor:
        """Of a batch that runs: the states [M, H] that are read, by sequence in the caller's order."""
        raise TypeError(f"{self.name} has no head: this is a bug")

    def read(self, run: Pass, reads: Reads) -> list[Logits]:
        """The logits of each read, flat ([L], or [W L] of W words), on the host.

        A decoder's are log p(string | text). What is read by the same function is read in one call, of
        whichever readout.
        """
        asked = [(row, strings) for (row,), strings in zip(reads.rows, reads.strings, strict=True)]
        found = decoding.score(run.backbone, run.hidden, run.batch, asked)
        return [values.float().cpu().numpy() for values in found]

    @abstractmethod
    def logits(
        self, backbone: Backbone, batch: PackedBatch, spec: HeadSpec, head: nn.Linear | None
    ) -> Tensor:
        """The training form: logits [M, L] of `states` with whatever is attached; gradients flow."""

    def loss(
        self, backbone: Backbone, batch: PackedBatch, spec: HeadSpec, head: nn.Linear | None, wanted: Wanted
    ) -> Tensor:
        """The mean loss of some rows; of a decoder, that of all tokens of the right strings."""
        with backbone.running(batch) as hidden:
            return self.loss_of(backbone, hidden, batch, spec, head, wanted)

    def loss_of(
        self,
        backbone: Backbone,
        hidden: Tensor,
        batch: PackedBatch,
        spec: HeadSpec,
        head: nn.Linear | None,
        wanted: Wanted,
    ) -> Tensor:
        """`loss` of rows whose encoder has run: hidden [T, H]. The batch may be a part of what runs."""
        return decoding.forced_loss(backbone, hidden, batch, wanted.strings)

    def measured_loss(self, spec: HeadSpec, logits: Tensor, wanted: Wanted) -> Tensor:
        """The mean loss that logits [N, P] of rows have; as `loss`, over all of them.

        Each row is flat: what stands behind its own logits is NaN.
        """
        right = logits.gather(1, wanted.targets[:, None])
        return -right.sum() / sum(map(len, wanted.strings))


READOUTS: Registry[Readout] = Registry("readout")
