"""words: a linear head [L, H] on the first token of each word; different heads share a batch.

The first token, as BERT's own tagger reads (Devlin et al. 2019, arXiv 1810.04805, section 5.3): in a deep
encoder its state has seen the others of the word, and a word that is cut in the middle still has an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from failures import Failure

from ..backbone import Backbone
from ..decoding import Strings
from ..kinds import KINDS, HeadSpec
from ..kinds.base import refused
from ..layout import Ints, put
from ..packed import PackedBatch
from ..sites import Tap
from ..text import Encoded
from .base import READOUTS, Cost, Logits, Pass, Readout, Reads, Wanted

POOLING = "first"
"""What specs say: the first token, of each word."""


class Words(Readout):
    """What files call by the kind's own name. W words of a text, M of all texts."""

    name = "words"
    has_head = True
    reads_words = True

    def check(self, spec: HeadSpec) -> list[Failure]:
        if spec.pooling == POOLING:
            return self.check_kind(spec)
        return [*self.check_kind(spec), refused("pooling", spec.pooling, f"{POOLING}: of each word")]

    def check_backbone(self, spec: HeadSpec, backbone: Backbone) -> list[Failure]:
        """Every encoder has a state at every token."""
        return []

    def passes(self, tap: Tap) -> bool:
        """No decoder runs."""
        return tap.stack == "encoder" and super().passes(tap)

    def cost(self, spec: HeadSpec, strings: Strings, backbone: Backbone) -> Cost:
        return Cost()

    def num_states(self, text: Encoded) -> int:
        return len(text.words)

    def states(self, backbone: Backbone, hidden: Tensor, batch: PackedBatch, pooling: str) -> Tensor:
        """In float32; of an encoder-decoder, the encoder's."""
        places = _places(batch, range(batch.num_rows))
        return hidden.index_select(0, put(places, hidden.device)).float()

    def read(self, run: Pass, reads: Reads) -> list[Logits]:
        """Flat [W L] of each read."""
        rows = [row for (row,) in reads.rows]
        counts = [len(run.batch.encoded[row].words) for row in rows]
        places = _places(run.batch, rows)
        if not len(places):
            return [np.empty(0, np.float32) for _ in counts]
        states = run.hidden.index_select(0, put(places, run.hidden.device)).float()
        slots = np.repeat(np.asarray(reads.slots), counts).tolist()
        found = iter(run.heads.read(states, range(len(places)), slots))
        return [_flat([next(found) for _ in range(count)]) for count in counts]

    def logits(
        self, backbone: Backbone, batch: PackedBatch, spec: HeadSpec, head: nn.Linear | None
    ) -> Tensor:
        with backbone.running(batch) as hidden:
            return self._logits_of(backbone, hidden, batch, head)

    def _logits_of(
        self, backbone: Backbone, hidden: Tensor, batch: PackedBatch, head: nn.Linear | None
    ) -> Tensor:
        assert head is not None, "words are read by a head: this is a bug"
        states = self.states(backbone, hidden, batch, POOLING)
        return linear(states, head.weight, head.bias)

    def loss_of(
        self,
        backbone: Backbone,
        hidden: Tensor,
        batch: PackedBatch,
        spec: HeadSpec,
        head: nn.Linear | None,
        wanted: Wanted,
    ) -> Tensor:
        """The mean over all words."""
        logits = self._logits_of(backbone, hidden, batch, head)
        rows = zip(wanted.targets, batch.encoded, strict=True)
        tags = torch.cat([row[: len(text.words)] for row, text in rows])
        return KINDS[spec.kind].loss(logits, tags, wanted.weights)

    def measured_loss(self, spec: HeadSpec, logits: Tensor, wanted: Wanted) -> Tensor:
        """Words without logits were cut: they have no part in it."""
        count, num_labels = len(logits), len(spec.labels)
        width = min(logits.shape[1] // num_labels, wanted.targets.shape[1])
        words = logits.reshape(count, -1, num_labels)[:, :width] if width else logits.new_empty(0, num_labels)
        tags = wanted.targets[:, :width] if width else wanted.targets.new_empty(0)
        own = (tags >= 0) & ~words[..., 0].isnan()
        return KINDS[spec.kind].loss(words[own], tags[own], wanted.weights)


def _places(batch: PackedBatch, rows: Sequence[int]) -> Ints:
    """Where the words of these rows (the caller's numbers) are among all tokens [M]."""
    packed = np.argsort(np.array(batch.order))
    starts = (batch.layout.starts + batch.virtual)[packed]  # of each row's own tokens, in the caller's order
    found = [starts[row] + word.token for row in rows for word in batch.encoded[row].words]
    return np.array(found, dtype=np.int64)


def _flat(words: Sequence[Logits]) -> Logits:
    return np.concatenate(words) if words else np.empty(0, np.float32)


READOUTS.add(Words())
