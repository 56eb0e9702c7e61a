"""Mixed batches in 16 bit and, where there is one, on a GPU: the same answers within the format's limits."""

from __future__ import annotations

import pytest
import torch

from modeling import METHODS, ServedModel, load_backbone
from tests.conformance import checks
from tests.tiny import minilm, random_texts

DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
]  # nothing is skipped: what is there is run
METHOD_OF_ROW = [*(m for m in METHODS if not checks.exclusive(m)), None, "hadamard", "bitfit"]
TEXTS = ["The delivery is late again.", ("A dog runs.", "An animal moves."), "", *random_texts(40, seed=3)]
TEXTS = TEXTS[: len(METHOD_OF_ROW)]
# float32 on another device sums in another order; bfloat16 keeps 8 bits of each number
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.15}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixed_batch_equals_float32_on_the_cpu_row_by_row(device: str, dtype: torch.dtype) -> None:
    reference = minilm()
    backbone = load_backbone("minilm", device=device, dtype=dtype)
    served = ServedModel(backbone)
    encoded = reference.text.encode(TEXTS)
    adapters = [
        checks.trained(reference, m, checks.SPECS[i % 4], i, size=0.05) if m else None
        for i, m in enumerate(METHOD_OF_ROW)
    ]
    slots = [served.install(adapter.pack()) if adapter else 0 for adapter in adapters]
    reads = [(row, slot) for row, slot in enumerate(slots) if slot]
    bodies = [served.placement(slot).body_slot if slot else 0 for slot in slots]
    got = dict(zip((row for row, _ in reads), served.run(encoded, bodies, reads), strict=True))
    for row, adapter in enumerate(adapters):
        if adapter is not None:
            want = checks.logits_alone(reference, adapter, encoded[row])
            scale = 1 + want.abs().max().item()
            assert (torch.from_numpy(got[row]) - want).abs().max() < TOLERANCE[dtype] * scale, METHOD_OF_ROW[
                row
            ]


def test_digests_do_not_depend_on_how_a_backbone_runs() -> None:
    other = load_backbone("minilm", dtype=torch.bfloat16)
    assert (other.config_digest, other.weights_digest) == (minilm().config_digest, minilm().weights_digest)
