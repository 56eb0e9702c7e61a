"""The first pass of a backbone, on a few tokens: what no file tells shows here, and not at the first request.

A config can hold values that the library takes and cannot run with, and weights that are finite can overflow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import decoding
from .backbone import Backbone
from .errors import BackboneError, in_a_sentence
from .text import TextItem

_TEXTS: tuple[TextItem, ...] = ("a", ("a b c d e f g h", "a b"))


def check_it_runs(backbone: Backbone) -> None:
    """Raises BackboneError if it fails, or gives what is not finite."""
    with torch.no_grad(), in_a_sentence("its first pass fails ({}): config.json is not sound"):
        states = _first_pass(backbone)
    if not all(bool(torch.isfinite(one).all()) for one in states):
        dtype = str(backbone.dtype).removeprefix("torch.")
        told = f"its first pass in {dtype} gives values that are not finite"
        raise BackboneError(f"{told}: use float32, or a checkpoint that is sound")


def _first_pass(backbone: Backbone) -> list[Tensor]:
    """Hidden states of the encoder and, where there is one, logits of the decoder."""
    batch = backbone.pack(backbone.text.encode(_TEXTS))
    with backbone.running(batch) as hidden:
        if not backbone.is_encoder_decoder:
            return [hidden]
        strings = [(row, ids) for row, ids in enumerate(backbone.label_ids(["a"] * len(_TEXTS)))]
        logits, _, _ = decoding.teacher_forced(backbone, hidden, batch, strings)
        return [hidden, logits]
