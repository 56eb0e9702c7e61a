"""The fast path of encoder-decoders computes what the reference path does, for every method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import PreTrainedConfig, T5Config

from modeling import Backbone, Encoded, HeadSpec, ServedModel
from tests.conformance import checks
from tests.conformance.test_fast_path import NEAR, PER_ROW, both, compare, needs_kernels, parameters, ragged
from tests.tiny import CONFIGS, VARIANTS, random_backbone

MODELS: dict[str, PreTrainedConfig] = {
    "t5": CONFIGS["t5"],
    "t5 v1.1": VARIANTS["t5 v1.1"],
    "t5 wide": T5Config(  # heads that the kernels attend with, sums longer than they take at a time
        vocab_size=CONFIGS["t5"].vocab_size, d_model=64, d_kv=64, d_ff=600, num_layers=2, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=CONFIGS["t5"].eos_token_id,
    ),
}  # fmt: skip
SPEC = HeadSpec("text_to_text", ("w1", "w2 w3", "w2 w4 w5", "w2"), pooling="none")
pytestmark = needs_kernels


def served(
    backbone: Backbone, methods: Sequence[str | None]
) -> tuple[list[ServedModel], list[int], list[int]]:
    """The fast path and the reference with the same adapters; slots and body slots by row."""
    adapters = [
        checks.trained(backbone, method, SPEC, number, size=0.1) if method else None
        for number, method in enumerate(methods)
    ]
    models, bodies = both(backbone, adapters)
    return models, [number + 1 for number, a in enumerate(x for x in adapters if x is not None)], bodies


def compare_scores(
    models: Sequence[ServedModel], encoded: Sequence[Encoded], bodies: Sequence[int], slots: Sequence[int]
) -> None:
    """Of strings that begin alike, under every row that has a task."""
    reads = list(zip([row for row, body in enumerate(bodies) if body], slots, strict=True))
    before = models[0].passes["fast"]
    got, want = (np.array(model.run(encoded, bodies, reads)) for model in models)
    assert models[0].passes["fast"] == before + 1, "the batch went the reference way"
    assert np.abs(got - want).max() <= NEAR * np.abs(want).max()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", [one for one in PER_ROW if one != "linear_probe"])
def test_a_method_beside_itself_and_bare_rows(name: str, method: str) -> None:
    backbone = random_backbone(MODELS[name])
    models, slots, bodies = served(backbone, [method, None, method, None, method, method])
    encoded = ragged(backbone, 6)
    compare(models, encoded, bodies)
    compare_scores(models, encoded, bodies, slots)
    compare(models, encoded, [bodies[0]] * 6)  # one adapter for a whole batch
    assert models[0].generate_ids(encoded, bodies, 9) == models[1].generate_ids(encoded, bodies, 9)


@pytest.mark.parametrize("name", MODELS)
def test_all_methods_in_one_batch(name: str) -> None:
    backbone = random_backbone(MODELS[name])
    methods = [method for method in PER_ROW if method != "linear_probe"]
    models, slots, bodies = served(backbone, [None, *methods, None, *methods])
    encoded = ragged(backbone, len(bodies))
    compare(models, encoded, bodies)
    compare_scores(models, encoded, bodies, slots)
    got, want = (model.generate_ids(encoded, bodies, 24) for model in models)
    assert got == want
    if name == "t5 v1.1":  # tied output layers repeat one token
        assert len({len(ids) for ids in got}) > 1, "all rows ended together, so none left the batch"


@pytest.mark.parametrize("name", MODELS)
def test_bare_rows_alone(name: str) -> None:
    models, _, bodies = served(random_backbone(MODELS[name]), [None] * 4)
    compare(models, ragged(models[0].backbone, 4), bodies)
    compare(models, [Encoded([5], [0], 1, truncated=False)], [0])


@pytest.mark.parametrize("method", ["hadamard", "lora", "bitfit", "ia3", "compacter", "ln_tuning"])
def test_neighbours_of_a_poisoned_row_keep_their_bits(method: str) -> None:
    backbone = random_backbone(MODELS["t5"])
    encoded = ragged(backbone, 4)
    adapters = [
        checks.trained(backbone, one, SPEC, n, size=0.1) for n, one in enumerate([method, method, "lora"])
    ]
    (quick, _), bodies = both(backbone, [*adapters, None])
    reads = [(row, row + 1) for row in range(3)]
    clean, texts = quick.run(encoded, bodies, reads), quick.generate_ids(encoded, bodies, 6)
    for values in parameters(adapters[0]):
        values.view(-1)[-1] = float("nan")
    quick.remove(1)
    assert quick.install(adapters[0].pack()) == 1
    got = quick.run(encoded, bodies, reads)
    assert not np.isfinite(got[0]).any()
    for mine, before in zip(got[1:], clean[1:], strict=True):
        assert np.array_equal(mine, before)
    assert quick.generate_ids(encoded, bodies, 6)[1:] == texts[1:]
    assert quick.passes["reference"] == 0


def test_what_it_refuses_runs_on_the_reference_path() -> None:
    """An adapter attached in its training form, and other weights."""
    backbone = random_backbone(MODELS["t5"])
    adapter, exclusive = (checks.trained(backbone, method, SPEC, 3) for method in ("hadamard", "full"))
    encoded = backbone.text.encode(["w1 w2 w3"])
    model = ServedModel(backbone)
    with adapter.attached(backbone), torch.inference_mode(), backbone.running(backbone.pack(encoded)) as want:
        pass
    with adapter.attached(backbone):
        torch.testing.assert_close(model.hidden(encoded, [0])[0], want, **checks.TOLERANCE)
    slot = model.install(exclusive.pack())
    with (
        exclusive.attached(backbone),
        torch.inference_mode(),
        backbone.running(backbone.pack(encoded)) as want,
    ):
        pass
    torch.testing.assert_close(model.hidden(encoded, [slot])[0], want, **checks.TOLERANCE)
    assert model.passes == {"fast": 0, "reference": 2}
