"""What every method must satisfy on every family. Each function takes a fresh backbone and a method name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from modeling import (
    METHODS,
    Adapter,
    Backbone,
    Encoded,
    EncodedRow,
    HeadSpec,
    ServedModel,
    TextItem,
    decoding,
    readout_of,
)
from tests.conformance.options import tiny_options
from tests.tiny import hidden_of, pooled_states, tiny_backbone

SPECS = [
    HeadSpec("single_label", ("no", "yes")),
    HeadSpec("single_label", tuple(f"c{i}" for i in range(7)), pooling="first"),
    HeadSpec("multi_label", ("a", "b", "c")),
    HeadSpec("regression", ("value",)),
]
# Every kind that a head answers word by word, on every backbone: on an encoder-decoder, by the encoder.
WORD_SPECS = [HeadSpec("token_labels", ("O", "B-x", "I-x", "B-y", "I-y"), pooling="first")]
# An encoder-decoder's: heads on the end state, and label strings of different lengths.
SEQ2SEQ_SPECS = [
    HeadSpec("single_label", ("no", "yes"), pooling="eos"),
    HeadSpec("regression", ("value",), pooling="eos"),
    HeadSpec("text_to_text", ("w1", "w2 w3", "w4 w5 w6"), pooling="none"),
    HeadSpec("text_to_text", ("w7", "w8"), pooling="none"),
]
# Of every backbone: pairs whose texts are encoded apart and read together.
APART_SPECS = [
    HeadSpec("single_label", ("other", "same"), pooling="apart"),
    HeadSpec("regression", ("likeness",), pooling="apart"),
]
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}  # the published one for float32
# Methods whose paper starts them near the backbone, not at it, and how near.
NEAR_START = {
    "houlsby": 0.05,
    "pfeiffer": 0.05,
    "adapter_drop": 0.05,
    "phm": 0.05,
    "compacter": 1e-3,
    "compacter_pp": 1e-3,
}
FAR_START = frozenset({"low_rank_adapter", "prompt_tuning"})  # not an identity in their papers


@cache
def exclusive(method: str | None) -> bool:
    """Whether a method's rows need a batch of their own."""
    if method is None:
        return False
    return (
        METHODS[method].from_config(tiny_options(method)).weights(tiny_backbone("t5").parameters) is not None
    )


def specs(backbone: Backbone) -> list[HeadSpec]:
    """The forms of task over single texts and pairs alike that a backbone can have."""
    return [*(SEQ2SEQ_SPECS if backbone.is_encoder_decoder else SPECS), *WORD_SPECS]


def encode(backbone: Backbone, texts: Sequence[Any]) -> list[Encoded]:
    """As rows for all kinds at once."""
    return backbone.text.encode(texts, words=True)


def all_specs(backbone: Backbone) -> list[HeadSpec]:
    """Every form of task that a backbone can have."""
    return [*specs(backbone), *APART_SPECS, *similarities(backbone)]


def similarities(backbone: Backbone) -> list[HeadSpec]:
    """By scores and without: a pair has a cosine, a text alone an embedding."""
    first, last = backbone.poolings[0], backbone.poolings[-1]
    return [
        HeadSpec("similarity", (), pooling=first, low=1.0, high=5.0),
        HeadSpec("similarity", (), pooling=last),
    ]


def encoded_for(backbone: Backbone, spec: HeadSpec | None, item: TextItem) -> EncodedRow:
    """An item as a task of this form (None: no task) reads it; a text that must be a pair gets a second."""
    if spec is None:
        return encode(backbone, [item])[0]
    readout = readout_of(spec)
    if readout.pairs and isinstance(item, str):
        item = (item, "w5 w6 w7")
    found: EncodedRow = readout.encode(backbone.text, [item], None)[0]
    return found


def new(
    backbone: Backbone, method: str, spec: HeadSpec, seed: int = 0, config: Mapping[str, Any] | None = None
) -> Adapter:
    """A fresh adapter with options that fit a tiny backbone."""
    options = tiny_options(method) if config is None else dict(config)
    return Adapter.create(backbone, METHODS[method].from_config(options), spec, seed=seed)


def trained(
    backbone: Backbone,
    method: str,
    spec: HeadSpec,
    seed: int,
    config: Mapping[str, Any] | None = None,
    size: float = 0.3,
) -> Adapter:
    """An adapter whose every parameter was moved from its initial value, so that each has an effect."""
    adapter = new(backbone, method, spec, seed, config)
    generator = torch.Generator().manual_seed(seed)
    size = 0.03 if exclusive(method) else size
    with torch.no_grad():
        for parameter in adapter.body_parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
        for parameter in adapter.head.parameters() if adapter.head is not None else ():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapter


def logits_of(backbone: Backbone, adapter: Adapter, encoded: Sequence[EncodedRow]) -> Tensor:
    """Training form: logits [B, L] of rows under one adapter, with gradients; [M, L] of their words, and
    embeddings [B, H] of texts that are alone under a similarity.
    """
    parts = [part for row in encoded for part in row.parts]
    if adapter.spec in WORD_SPECS:
        assert adapter.head is not None
        return adapter.head(torch.cat([_word_states(backbone, adapter, one) for one in parts]))  # type: ignore[no-any-return]
    batch = backbone.pack(parts, adapter.virtual_tokens)
    pooling = adapter.spec.pooling
    with adapter.attached(backbone):
        if readout_of(adapter.spec).decodes:
            return decoding.label_logits(backbone, batch, backbone.label_ids(adapter.spec.labels))
        states = pooled_states(backbone, batch, backbone.poolings[0] if pooling == "apart" else pooling)
        if pooling == "apart":
            u, v = states[0::2], states[1::2]
            states = torch.cat([u, v, (u - v).abs(), u * v], 1)
        if adapter.head is None:
            lengths = {len(row.parts) for row in encoded}
            unit: Tensor = states / states.norm(dim=1, keepdim=True)
            return unit if lengths == {1} else (unit[0::2] * unit[1::2]).sum(1, keepdim=True)
        logits: Tensor = adapter.head(states)
    return logits


def _word_states(backbone: Backbone, adapter: Adapter, encoded: Encoded) -> Tensor:
    """By hand: the states [W, H] at the first tokens of a row's words, behind virtual tokens."""
    with (
        adapter.attached(backbone),
        backbone.running(backbone.pack([encoded], adapter.virtual_tokens)) as all_,
    ):
        return all_[[adapter.virtual_tokens + word.token for word in encoded.words]]


def logits_alone(backbone: Backbone, adapter: Adapter, encoded: EncodedRow) -> Tensor:
    """The reference: one row, one adapter, training form -> [L], or [W L] of W words."""
    with torch.no_grad():
        return logits_of(backbone, adapter, [encoded]).flatten()


def check_identity_at_start(backbone: Backbone, method: str, texts: Sequence[Any]) -> None:
    """A new adapter leaves the backbone's answers as they are, or as near as its paper says."""
    encoded = encode(backbone, texts)
    spec = specs(backbone)[0]
    adapter, probe = new(backbone, method, spec), new(backbone, "linear_probe", spec)
    assert adapter.head is not None
    probe.head = adapter.head
    with torch.no_grad():
        plain, adapted = (logits_of(backbone, a, encoded) for a in (probe, adapter))
    difference = (adapted - plain).abs().max().item()
    if method in FAR_START:
        assert difference > 1e-4, f"{method} starts at the identity; its paper does not"
    else:
        assert difference <= NEAR_START.get(method, 1e-6)


def check_mixed_batch(
    backbone: Backbone,
    methods: Sequence[str | None],
    texts: Sequence[Any],
    seed: int = 0,
    kinds: Sequence[HeadSpec] | None = None,
) -> None:
    """Row i under `methods[i]` (None: no adapter) in one batch = each row alone; and the adapters do act."""
    kinds = kinds or all_specs(backbone)
    adapters = [
        trained(backbone, m, kinds[(i + seed) % len(kinds)], seed + i) if m else None
        for i, m in enumerate(methods)
    ]
    encoded = [
        encoded_for(backbone, a.spec if a else None, text) for a, text in zip(adapters, texts, strict=True)
    ]
    first = [e.parts[0] for e in encoded]
    plain = [hidden_of(backbone, [e]).detach() for e in first]
    want = [logits_alone(backbone, a, e) if a else None for a, e in zip(adapters, encoded, strict=True)]
    for served in served_models(backbone):
        slots = [served.install(a.pack()) if a else 0 for a in adapters]
        bodies = [served.placement(slot).body_slot if slot else 0 for slot in slots]
        reads = [(i, slot) for i, slot in enumerate(slots) if slot]
        got = dict(zip((i for i, _ in reads), served.run(encoded, bodies, reads), strict=True))
        hidden = served.hidden(first, bodies)
        for i, adapter in enumerate(adapters):
            if adapter is None:
                torch.testing.assert_close(hidden[i], plain[i], **TOLERANCE)
                continue
            torch.testing.assert_close(torch.from_numpy(got[i]), want[i], **TOLERANCE)
            if adapter.body:
                assert (hidden[i] - plain[i]).abs().max() > 1e-3, f"{methods[i]} does nothing"


def served_models(backbone: Backbone) -> list[ServedModel]:
    """One for each path that batches can take on this backbone."""
    models = [ServedModel(backbone), ServedModel(backbone, fast=False)]
    return models if backbone.family.fast else models[:1]


def check_exclusive(
    backbone: Backbone,
    method: str,
    texts: Sequence[Any],
    config: Mapping[str, Any] | None = None,
    kinds: Sequence[HeadSpec] | None = None,
) -> None:
    """A batch of an exclusive adapter's own = each row alone; its neighbours see the frozen weights again."""
    plain, kinds = backbone.text.encode(texts), kinds or all_specs(backbone)
    served = ServedModel(backbone)
    before = served.hidden(plain, [0] * len(plain))
    for number, spec in enumerate(kinds):
        adapter = trained(backbone, method, spec, number, config)
        encoded = [encoded_for(backbone, spec, text) for text in texts]
        want = [logits_alone(backbone, adapter, e) for e in encoded]
        slot = served.install(adapter.pack())
        body = served.placement(slot).body_slot
        assert served.placement(slot).exclusive
        got = served.run(encoded, [body] * len(encoded), [(i, slot) for i in range(len(encoded))])
        for have, wanted in zip(got, want, strict=True):
            torch.testing.assert_close(torch.from_numpy(have), wanted, **TOLERANCE)
        moved = served.hidden(plain, [body] * len(plain))
        assert max((a - b).abs().max() for a, b in zip(moved, before, strict=True)) > 1e-3
    for now, then in zip(served.hidden(plain, [0] * len(plain)), before, strict=True):
        assert torch.equal(now, then)


def check_round_trip(backbone: Backbone, method: str, texts: Sequence[Any]) -> None:
    """to_tensors -> from_tensors gives the same logits, bit for bit, for every form of task."""
    for spec in all_specs(backbone):
        adapter = trained(backbone, method, spec, 5)
        again = Adapter.from_tensors(backbone, adapter.method, adapter.spec, adapter.to_tensors())
        for encoded in (encoded_for(backbone, spec, text) for text in texts):
            assert torch.equal(
                logits_alone(backbone, adapter, encoded), logits_alone(backbone, again, encoded)
            ), f"{method} changes on its way through tensors"


def check_gradients(backbone: Backbone, method: str, texts: Sequence[Any]) -> None:
    """Every parameter of the adapter gets a gradient (but BitFit's key bias has none); no other does."""
    apart = [APART_SPECS[0], similarities(backbone)[0]]
    for spec in (specs(backbone)[1], specs(backbone)[3], *WORD_SPECS, *apart):
        adapter = trained(backbone, method, spec, 3)
        if not (adapter.body_parameters() or adapter.head):
            continue  # a probe without a head has nothing to train
        pairs = [(text, "w5 w6 w7") if isinstance(text, str) else text for text in texts]
        items = pairs if readout_of(spec).apart else texts
        encoded = [encoded_for(backbone, spec, item) for item in items]
        loss = logits_of(backbone, adapter, encoded).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        assert all(p.grad is None for p in backbone.model.parameters())
        named = {f"{t.key}/{n}": p for t, m in adapter.body.items() for n, p in m.named_parameters()}
        named |= {f"shared/{name}": parameter for name, parameter in adapter.shared.items()}
        for name, parameter in named.items():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            if not (method == "bitfit" and ".attn_k/" in name):
                assert parameter.grad.abs().max() > 0, name
        if adapter.weights is not None:
            assert any(p.grad is not None and p.grad.abs().max() > 0 for p in adapter.body_parameters())


def check_all(backbone_of: Any, method: str, texts: Sequence[Any]) -> None:
    """The whole suite for one method; `backbone_of()` gives a fresh backbone."""
    check_identity_at_start(backbone_of(), method, texts)
    check_mixed_batch(backbone_of(), [method, None, method, "bitfit", method][: len(texts)], texts[:5])
    check_round_trip(backbone_of(), method, texts)
    check_gradients(backbone_of(), method, texts)
