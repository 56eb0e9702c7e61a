"""text_to_text: the answer is one of L label strings, written by an encoder-decoder; no head of its own.

The logits are log p(string, end of sequence | text), so the softmax over them is the probability of each
string given that it is one of them.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from ..errors import Failure
from .base import HEADS, HeadKind, HeadSpec, check_labels
from .single_label import decide


def _loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """logits [B, L], targets [B] label numbers, weights [L]; training uses the tokens' own loss instead."""
    return cross_entropy(logits, targets, weight=weights)


def _check(spec: HeadSpec) -> list[Failure]:
    failures = check_labels(spec, least=1)
    if any(not label.strip() for label in spec.labels):
        failures.append(
            Failure("head.labels", repr(list(spec.labels)), "strings with characters", "name every answer.")
        )
    return failures


HEADS.register("text_to_text")(HeadKind("text_to_text", decide, _loss, _check))
