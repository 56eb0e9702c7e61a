"""text: an answer that is written and not chosen (ReCoRD, SQuAD); there are no labels.

Its one logit is log p(a string that the row names, end of sequence | the row's text): what probes record.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from .base import KINDS, Answer, Choices, Floats, HeadSpec, Kind


class Text(Kind):
    """Answers by itself alone where somebody has written: nothing is decided."""

    name = "text"
    readout = "written"
    margin_word = "the log probability of the text that is written with the whole adapter"
    options = ("max_new_tokens",)

    def decide(
        self, spec: HeadSpec, logits: Floats, top_k: int | None = None, choices: Choices = ()
    ) -> list[Answer]:
        raise TypeError("a text is written, not decided: this is a bug")

    def margin(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        return logits[:, 0]

    def probability(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        return np.asarray(np.exp(logits[:, 0]))

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        raise TypeError("a text has the loss of its readout: this is a bug")


KINDS.add(Text())
