"""Labels of words under every method on every family: training form, serving form, one pass for all kinds."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from modeling import FAMILIES, METHODS, READOUTS, ServedModel, Wanted
from tests.conformance import checks
from tests.tiny import random_texts, tiny_backbone

PAIRS = [(family, method) for family in FAMILIES for method in METHODS]
TEXTS = [text for text in random_texts(9, seed=4) if isinstance(text, str)]
(SPEC,) = checks.WORD_SPECS


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_what_is_trained_is_what_is_served(family: str, method: str) -> None:
    """Rows of different lengths in one batch, in both forms, and the loss over all their words."""
    backbone = tiny_backbone(family)
    encoded = backbone.text.encode(TEXTS, 9, words=True)
    assert {bool(row.words) for row in encoded} == {row.truncated for row in encoded} == {True, False}
    adapter, words = checks.trained(backbone, method, SPEC, 2), READOUTS["words"]
    want = torch.cat([checks.logits_alone(backbone, adapter, row).view(-1, 5) for row in encoded])
    tags = torch.randint(0, 5, (len(encoded), 30))
    batch = backbone.pack(encoded, adapter.virtual_tokens)
    with adapter.attached(backbone), torch.no_grad():
        trained = words.logits(backbone, batch, SPEC, adapter.head)
        loss = words.loss(backbone, batch, SPEC, adapter.head, Wanted(tags))
    torch.testing.assert_close(trained, want, **checks.TOLERANCE)
    own = torch.cat([row[: len(text.words)] for row, text in zip(tags, encoded, strict=True)])
    torch.testing.assert_close(loss, cross_entropy(want, own), **checks.TOLERANCE)

    served = ServedModel(backbone)
    slot = served.install(adapter.pack())
    body = served.placement(slot).body_slot
    found = served.run(encoded, [body] * len(encoded), [(row, slot) for row in range(len(encoded))])
    assert [len(row) for row in found] == [5 * len(text.words) for text in encoded]
    flat = torch.cat([torch.from_numpy(row) for row in found])
    torch.testing.assert_close(flat, want.flatten(), **checks.TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_of_all_kinds_read_one_row(family: str) -> None:
    """Tasks without a body share a text's row; two of them read its words."""
    backbone = tiny_backbone(family)
    (encoded,) = backbone.text.encode(TEXTS[1:2], words=True)
    heads = [spec for spec in checks.specs(backbone) if spec.pooling != "none"]
    adapters = [
        checks.trained(backbone, "linear_probe", spec, i) for i, spec in enumerate([*heads, SPEC, *heads])
    ]
    served = ServedModel(backbone)
    slots = [served.install(adapter.pack()) for adapter in adapters]
    assert {served.placement(slot).body_slot for slot in slots} == {0}
    for adapter, found in zip(
        adapters, served.run([encoded], [0], [(0, slot) for slot in slots]), strict=True
    ):
        want = checks.logits_alone(backbone, adapter, encoded)
        torch.testing.assert_close(torch.from_numpy(found), want, **checks.TOLERANCE)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_nothing_acts_where_no_decoder_runs(family: str) -> None:
    adapter = checks.new(tiny_backbone(family), "bitfit", SPEC)
    assert {tap.stack for tap in adapter.body} == {"encoder"}
