"""strings: an encoder-decoder scores label strings; the logits are log p(string, end of sequence | text).

So their softmax is the probability of each string, given that it is one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from failures import Failure

from .. import decoding
from ..backbone import Backbone
from ..decoding import Strings
from ..kinds import KINDS, HeadSpec
from ..kinds.base import check_labels, refused
from ..packed import PackedBatch
from .base import READOUTS, TEXT_TO_TEXT, Cost, Logits, Pass, Readout, Reads


class LabelStrings(Readout):
    """A text_to_text with labels."""

    name = "strings"
    file_kind = TEXT_TO_TEXT

    def reads(self, spec: HeadSpec) -> bool:
        return spec.kind == TEXT_TO_TEXT and bool(spec.labels)

    def kind(self, spec: HeadSpec) -> str:
        return "single_label"

    def check(self, spec: HeadSpec) -> list[Failure]:
        """One string is enough here."""
        failures = [*check_labels(spec, least=1), *decoder_failures(spec)]
        if any(not label.strip() for label in spec.labels):
            failures.append(refused("labels", list(spec.labels), "strings with characters"))
        return failures + KINDS[self.kind(spec)].check_options(spec)

    def check_backbone(self, spec: HeadSpec, backbone: Backbone) -> list[Failure]:
        return needs_decoder(backbone)

    def cost(self, spec: HeadSpec, strings: Strings) -> Cost:
        return Cost(fixed=sum(map(len, strings)))

    def read(self, run: Pass, reads: Reads) -> list[Logits]:
        return scored(run, reads.rows, reads.strings)

    def logits(
        self, backbone: Backbone, batch: PackedBatch, spec: HeadSpec, head: nn.Linear | None
    ) -> Tensor:
        return decoding.label_logits(backbone, batch, backbone.label_ids(spec.labels))


READOUTS.add(LabelStrings())


def scored(run: Pass, rows: Sequence[int], strings: Sequence[Strings]) -> list[Logits]:
    """log p of every one of `strings[i]` after the text of row `rows[i]`."""
    asked = list(zip(rows, strings, strict=True))
    found = decoding.score(run.backbone, run.hidden, run.batch, asked)
    return [values.float().cpu().numpy() for values in found]


def needs_decoder(backbone: Backbone) -> list[Failure]:
    """An encoder cannot answer as text."""
    if backbone.is_encoder_decoder:
        return []
    remedy = "use a T5 or BART backbone, or another kind of task."
    return [Failure("head.kind", TEXT_TO_TEXT, f"heads, as {backbone.name} has no decoder", remedy)]


def decoder_failures(spec: HeadSpec) -> list[Failure]:
    """There is no head that would need a pooled state."""
    allowed = "none: a text_to_text has no head"
    return [] if spec.pooling == "none" else [refused("pooling", spec.pooling, allowed)]
