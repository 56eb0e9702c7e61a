"""strings: an encoder-decoder scores label strings; the logits are log p(string, end of sequence | text).

So their softmax is the probability of each string, given that it is one of them.
"""

from __future__ import annotations

from torch import Tensor, nn

from failures import Failure

from .. import decoding
from ..backbone import Backbone
from ..decoding import Strings
from ..kinds import KINDS, HeadSpec
from ..kinds.base import check_labels, refused
from ..packed import PackedBatch
from .base import DECODER_KIND, READOUTS, Cost, Readout


class LabelStrings(Readout):
    """A text_to_text with labels."""

    name = "strings"
    file_kind = DECODER_KIND

    def reads(self, spec: HeadSpec) -> bool:
        return spec.kind == DECODER_KIND and bool(spec.labels)

    def kind(self, spec: HeadSpec) -> str:
        return "single_label"

    def check_kind(self, spec: HeadSpec) -> list[Failure]:
        """One string is enough here."""
        failures = [*check_labels(spec, least=1), *KINDS[self.kind(spec)].check_options(spec)]
        if any(not label.strip() for label in spec.labels):
            failures.append(refused("labels", list(spec.labels), "strings with characters"))
        return failures

    def cost(self, spec: HeadSpec, strings: Strings, backbone: Backbone) -> Cost:
        return Cost(fixed=decoding.num_tokens(strings))

    def logits(
        self, backbone: Backbone, batch: PackedBatch, spec: HeadSpec, head: nn.Linear | None
    ) -> Tensor:
        return decoding.label_logits(backbone, batch, backbone.label_ids(spec.labels))


READOUTS.add(LabelStrings())
