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
from .base import READOUTS, TEXT_TO_TEXT, Cost, Logits, Pass, Readout, Reads
from .strings import decoder_failures, needs_decoder, scored


class Written(Readout):
    """A text_to_text without labels. The string of a row is its `Encoded.target`."""

    name = "written"
    file_kind = TEXT_TO_TEXT
    writes = True

    def reads(self, spec: HeadSpec) -> bool:
        return spec.kind == TEXT_TO_TEXT and not spec.labels

    def kind(self, spec: HeadSpec) -> str:
        return "text"

    def check(self, spec: HeadSpec) -> list[Failure]:
        failures = [*super().check(spec), *decoder_failures(spec)]
        if spec.max_new_tokens is None:
            allowed = "A number for a text_to_text without labels, null for all else"
            failures.append(refused("max_new_tokens", None, allowed))
        return failures

    def check_backbone(self, spec: HeadSpec, backbone: Backbone) -> list[Failure]:
        return needs_decoder(backbone)

    def cost(self, spec: HeadSpec, strings: Strings) -> Cost:
        """What a row's own string costs is known with the row."""
        return Cost()

    def read(self, run: Pass, reads: Reads) -> list[Logits]:
        targets = [run.batch.encoded[row].target for row in reads.rows]
        assert all(targets), "a row without a string is scored: this is a bug"
        return scored(run, reads.rows, [[target] for target in targets])

    def logits(
        self, backbone: Backbone, batch: PackedBatch, spec: HeadSpec, head: nn.Linear | None
    ) -> Tensor:
        return decoding.target_scores(backbone, batch, [text.target for text in batch.encoded])[:, None]


READOUTS.add(Written())
