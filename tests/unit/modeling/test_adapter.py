"""Adapter.from_tensors refuses everything that is not exactly the adapter, and says all of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from modeling import METHODS, Adapter, AdapterError, HeadSpec, ServedModel
from tests.tiny import pooled_states, tiny_backbone

SPEC = HeadSpec("single_label", ("no", "yes"))
SCALE = "encoder.0.attn_context/scale"


def tensors() -> dict[str, Tensor]:
    return Adapter.create(tiny_backbone("bert"), METHODS["hadamard"].from_config({}), SPEC).to_tensors()


def load(changed: dict[str, Tensor]) -> Adapter:
    return Adapter.from_tensors(tiny_backbone("bert"), METHODS["hadamard"].from_config({}), SPEC, changed)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda t: t | {"encoder.0.attn_context/scal": t.pop(SCALE)}, [SCALE, "encoder.0.attn_context/scal"]),
        (lambda t: t | {SCALE: torch.ones(31)}, [SCALE]),
        (lambda t: t | {SCALE: torch.ones(1, 32)}, [SCALE]),
        (lambda t: t | {SCALE: torch.full((32,), math.nan)}, [SCALE]),
        (lambda t: t | {SCALE: torch.full((32,), math.inf)}, [SCALE]),
        (lambda t: t | {"head/weight": torch.ones(3, 32)}, ["head/weight"]),
        (lambda t: {k: v for k, v in t.items() if not k.startswith("head")}, ["head/bias", "head/weight"]),
    ],
)
def test_every_difference_is_named(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], fields: list[str]
) -> None:
    with pytest.raises(AdapterError) as error:
        load(change(tensors()))
    assert [failure.field for failure in error.value.failures] == fields
    assert all(f.got and f.allowed and f.remedy for f in error.value.failures)


def test_all_failures_at_once() -> None:
    with pytest.raises(AdapterError) as error:
        load({"encoder.9.ffn_out/scale": torch.ones(3)})
    assert len(error.value.failures) == 2 * 4 + 2 + 1


def test_loaded_tensors_are_copies() -> None:
    given = tensors()
    adapter = load(given)
    given[SCALE].fill_(7.0)
    assert adapter.to_tensors()[SCALE].max() == 1.0


def test_same_seed_same_adapter_and_global_seed_untouched() -> None:
    state = torch.random.get_rng_state()
    first, second = tensors(), tensors()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_attached_leaves_the_model_as_it_was_even_after_an_error() -> None:
    backbone = tiny_backbone("bert")
    names = [name for name, _ in backbone.model.named_modules()]
    adapter = Adapter.create(backbone, METHODS["bitfit"].from_config({}), SPEC)
    with pytest.raises(RuntimeError, match="boom"), adapter.attached(backbone):
        assert [name for name, _ in backbone.model.named_modules()] != names
        raise RuntimeError("boom")
    assert [name for name, _ in backbone.model.named_modules()] == names


def test_head_spans_are_reused_and_joined() -> None:
    backbone = tiny_backbone("bert")
    served = ServedModel(backbone)
    probe = METHODS["linear_probe"].from_config({})

    def head(labels: int, seed: int) -> Adapter:
        spec = HeadSpec("multi_label", tuple(f"l{i}" for i in range(labels)))
        return Adapter.create(backbone, probe, spec, seed=seed)

    slots = [served.install(head(n, n).pack()) for n in (30, 20, 14)]
    full = served.nbytes
    for slot in slots[1:]:
        served.remove(slot)
    wide = head(34, 34)
    slot = served.install(wide.pack())
    assert served.nbytes == full
    encoded = backbone.text.encode(["w1 w2"])
    pooled = pooled_states(backbone, backbone.pack(encoded), "mean")
    got = served.run(encoded, [0], [(0, slot), (0, slots[0])])
    assert wide.head is not None
    torch.testing.assert_close(torch.from_numpy(got[0]), wide.head(pooled)[0].detach())
    assert got[1].shape == (30,)


def test_wide_heads_are_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from modeling import head_bank

    backbone = tiny_backbone("bert")
    served = ServedModel(backbone)
    spec = HeadSpec("multi_label", tuple(f"l{i}" for i in range(50)))
    adapter = Adapter.create(backbone, METHODS["linear_probe"].from_config({}), spec, seed=1)
    slot = served.install(adapter.pack())
    encoded = backbone.text.encode(["w1", "w2 w3", "w4"])
    reads = [(i, slot) for i in range(3)]
    whole = served.run(encoded, [0] * 3, reads)
    monkeypatch.setattr(head_bank, "_CHUNK_VALUES", 7 * 32)
    for got, want in zip(served.run(encoded, [0] * 3, reads), whole, strict=True):
        assert (got == want).all()
