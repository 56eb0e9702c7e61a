"""text_to_text: the answer is one of L label strings, written by an encoder-decoder; no head of its own.

The logits are log p(string, end of sequence | text), so the softmax over them is the probability of each
string given that it is one of them. A task without labels (ReCoRD, SQuAD) is answered with any text, which
the decoder writes; its one logit is that of a string which the caller names.
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
    failures = check_labels(spec, least=0)
    if any(not label.strip() for label in spec.labels):
        failures.append(
            Failure("head.labels", repr(list(spec.labels)), "strings with characters", "name every answer.")
        )
    if (spec.max_new_tokens is not None) != spec.is_free_text:
        allowed = "a number of tokens for a task without labels, and for no other"
        remedy = "say how long an answer may be, or name the labels."
        failures.append(Failure("head.max_new_tokens", repr(spec.max_new_tokens), allowed, remedy))
    return failures


HEADS.register("text_to_text")(HeadKind("text_to_text", decide, _loss, _check))
