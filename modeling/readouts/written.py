"""written: an encoder-decoder writes its answer; read, it scores the string that a row names."""

from __future__ import annotations

from torch import Tensor, nn

from failures import Failure

from .. import decoding
from ..backbone import Backbone
from ..decoding import Strings
from ..kinds import HeadSpec
from ..kinds.base import refused
from ..packed import PackedBatch
from ..text import Encoded
from .base import DECODER_KIND, READOUTS, Cost, Readout


class Written(Readout):
    """A text_to_text without labels. The string of a row is its `Encoded.target`."""

    name = "written"
    file_kind = DECODER_KIND
    writes = True

    def reads(self, spec: HeadSpec) -> bool:
        return spec.kind == DECODER_KIND and not spec.labels

    def kind(self, spec: HeadSpec) -> str:
        return "text"

    def check_kind(self, spec: HeadSpec) -> list[Failure]:
        failures = super().check_kind(spec)
        if spec.max_new_tokens is None:
            allowed = "A number for a text_to_text without labels, null for all else"
            failures.append(refused("max_new_tokens", None, allowed))
        return failures

    def cost(self, spec: HeadSpec, strings: Strings, backbone: Backbone) -> Cost:
        """What a row's own string costs is known with the row."""
        return Cost()

    def strings(self, labels: Strings, text: Encoded) -> Strings:
        assert text.target, "a row without a string is scored: this is a bug"
        return [text.target]

    def logits(
        self, backbone: Backbone, batch: PackedBatch, spec: HeadSpec, head: nn.Linear | None
    ) -> Tensor:
        return decoding.target_scores(backbone, batch, [text.target for text in batch.encoded])[:, None]


READOUTS.add(Written())
