"""What every method must satisfy on every family. Each function takes a fresh backbone and a method name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from modeling import METHODS, Adapter, Backbone, Encoded, HeadSpec, ServedModel

SPECS = [
    HeadSpec("single_label", ("no", "yes")),
    HeadSpec("single_label", tuple(f"c{i}" for i in range(7)), pooling="first"),
    HeadSpec("multi_label", ("a", "b", "c")),
    HeadSpec("regression", ("value",)),
]
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}  # the published one for float32


def trained(
    backbone: Backbone, method: str, spec: HeadSpec, seed: int, config: Mapping[str, Any] | None = None
) -> Adapter:
    """An adapter whose every parameter was moved from its initial value, so that each has an effect."""
    adapter = Adapter.create(backbone, METHODS[method].from_config(dict(config or {})), spec, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in [*adapter.body_parameters(), *adapter.head.parameters()]:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapter


def logits_alone(backbone: Backbone, adapter: Adapter, encoded: Encoded) -> Tensor:
    """The reference: one row, one adapter, training form -> [L]."""
    with adapter.attached(backbone), torch.no_grad():
        batch = backbone.pack([encoded])
        pooled = backbone.pool(backbone.hidden(batch), batch, adapter.spec.pooling)
        logits: Tensor = adapter.head(pooled)[0]
    return logits


def check_identity_at_start(backbone: Backbone, method: str, texts: Sequence[Any]) -> None:
    """A new adapter leaves the backbone's hidden states as they are."""
    encoded = backbone.text.encode(texts)
    adapter = Adapter.create(backbone, METHODS[method].from_config({}), SPECS[0])
    with torch.no_grad():
        batch = backbone.pack(encoded)
        plain = backbone.hidden(batch)
        with adapter.attached(backbone):
            adapted = backbone.hidden(batch)
    torch.testing.assert_close(adapted, plain, rtol=0, atol=1e-6)


def check_mixed_batch(
    backbone: Backbone, methods: Sequence[str | None], texts: Sequence[Any], seed: int = 0
) -> None:
    """Row i under `methods[i]` (None: no adapter) in one batch = each row alone; and the adapters do act."""
    encoded = backbone.text.encode(texts)
    adapters = [
        trained(backbone, m, SPECS[(i + seed) % len(SPECS)], seed + i) if m else None
        for i, m in enumerate(methods)
    ]
    plain = [backbone.hidden(backbone.pack([e])).detach() for e in encoded]
    want = [logits_alone(backbone, a, e) if a else None for a, e in zip(adapters, encoded, strict=True)]
    served = ServedModel(backbone)
    slots = [served.install(a.pack()) if a else 0 for a in adapters]
    bodies = [served.body_slot(slot) if slot else 0 for slot in slots]
    reads = [(i, slot) for i, slot in enumerate(slots) if slot]
    got = dict(zip((i for i, _ in reads), served.run(encoded, bodies, reads), strict=True))
    hidden = served.hidden(encoded, bodies)
    for i, adapter in enumerate(adapters):
        if adapter is None:
            torch.testing.assert_close(hidden[i], plain[i], **TOLERANCE)
            continue
        torch.testing.assert_close(torch.from_numpy(got[i]), want[i], **TOLERANCE)
        if adapter.body:
            assert (hidden[i] - plain[i]).abs().max() > 1e-3, f"{methods[i]} does nothing"


def check_round_trip(backbone: Backbone, method: str, texts: Sequence[Any]) -> None:
    """to_tensors -> from_tensors gives the same logits, bit for bit."""
    adapter = trained(backbone, method, SPECS[0], 5)
    again = Adapter.from_tensors(backbone, adapter.method, adapter.spec, adapter.to_tensors())
    for encoded in backbone.text.encode(texts):
        assert torch.equal(
            logits_alone(backbone, adapter, encoded), logits_alone(backbone, again, encoded)
        ), f"{method} changes on its way through tensors"


def check_gradients(backbone: Backbone, method: str, texts: Sequence[Any]) -> None:
    """Every parameter of the adapter gets a gradient (but BitFit's key bias has none); no other does."""
    adapter = trained(backbone, method, SPECS[1], 3)
    batch = backbone.pack(backbone.text.encode(texts))
    with adapter.attached(backbone):
        logits = adapter.head(backbone.pool(backbone.hidden(batch), batch, adapter.spec.pooling))
        logits.square().sum().backward()
    assert all(p.grad is None for p in backbone.model.parameters())
    for tap, module in adapter.body.items():
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{tap.key}/{name}"
            assert torch.isfinite(parameter.grad).all(), f"{tap.key}/{name}"
            if not (method == "bitfit" and tap.site == "attn_k"):
                assert parameter.grad.abs().max() > 0, f"{tap.key}/{name}"


def check_all(backbone_of: Any, method: str, texts: Sequence[Any]) -> None:
    """The whole suite for one method; `backbone_of()` gives a fresh backbone."""
    check_identity_at_start(backbone_of(), method, texts)
    check_mixed_batch(backbone_of(), [method, None, method, "bitfit", method][: len(texts)], texts[:5])
    check_round_trip(backbone_of(), method, texts)
    check_gradients(backbone_of(), method, texts)
