"""The recorded path computes what the reference path does; on a CPU its passes run over the same buffers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from modeling import FAMILIES, METHODS, Adapter, Backbone, Encoded, ServedModel
from modeling.banks import Banks
from modeling.cuda import RecordedPath, path
from modeling.cuda.buffers import Bucket
from modeling.cuda.plan import RECORDED, plan_of
from modeling.tapped import attach
from tests.conformance import checks
from tests.tiny import random_texts, tiny_backbone

FAST = [name for name in FAMILIES if name in RECORDED]
REFUSED = {"prompt_tuning"}  # it acts by the place of a token in its row
PER_ROW = [method for method in METHODS if not checks.exclusive(method) and method not in REFUSED]
ACTING = [method for method in PER_ROW if method != "linear_probe"]
SPEC = checks.SPECS[0]
NEAR = 2e-6  # of the largest number


def both(
    backbone: Backbone, adapters: Sequence[Adapter | None]
) -> tuple[ServedModel, ServedModel, list[int]]:
    """The recorded path and the reference, with the same adapters in the same slots; slots by row."""
    models = ServedModel(backbone, path_of=RecordedPath.on), ServedModel(backbone, fast=False)
    slots = [[model.install(a.pack()) if a else 0 for a in adapters] for model in models]
    assert slots[0] == slots[1]
    bodies = [models[0].placement(slot).body_slot if slot else 0 for slot in slots[0]]
    return *models, bodies


def ragged(backbone: Backbone, rows: int, seed: int = 0) -> list[Encoded]:
    """Texts of many lengths, one of them a single token."""
    texts = backbone.text.encode(random_texts(rows - 1, seed=rows + seed))
    return [*texts, Encoded([5], [0], 1, truncated=False)]


def compare(mine: ServedModel, reference: ServedModel, encoded: Sequence[Encoded], bodies: list[int]) -> None:
    before = mine.passes["fast"]
    got, want = (model.hidden(encoded, bodies) for model in (mine, reference))
    assert mine.passes["fast"] > before, "the batch went the reference way"
    assert reference.passes["fast"] == 0
    for own, exact in zip(got, want, strict=True):
        assert exact.any()
        assert (own - exact).abs().max() <= NEAR * exact.abs().max()


def mixed(backbone: Backbone, methods: Sequence[str | None], seed: int = 0) -> list[Adapter | None]:
    return [
        checks.trained(backbone, method, SPEC, seed + number, size=0.1) if method else None
        for number, method in enumerate(methods)
    ]


@pytest.mark.parametrize("family", FAST)
@pytest.mark.parametrize("method", PER_ROW)
def test_a_method_beside_itself_and_bare_rows(family: str, method: str) -> None:
    backbone = tiny_backbone(family)
    mine, reference, bodies = both(backbone, mixed(backbone, [method, None, method, None, method, method]))
    compare(mine, reference, ragged(backbone, 6), bodies)
    compare(mine, reference, ragged(backbone, 6), [bodies[0]] * 6)  # one adapter for a whole batch
    compare(mine, reference, [Encoded([5], [0], 1, truncated=False)], [0])


@pytest.mark.parametrize("family", FAST)
def test_all_methods_in_one_batch(family: str) -> None:
    backbone = tiny_backbone(family)
    mine, reference, bodies = both(backbone, mixed(backbone, [None, *PER_ROW, None, *PER_ROW]))
    compare(mine, reference, ragged(backbone, len(bodies)), bodies)


OPTIONS = [
    *(("houlsby", {"bottleneck": b, "activation": a}) for b, a in ((3, "gelu"), (20, "relu"), (8, "swish"))),
    *(("phm", {"bottleneck": 6, "division": 2}), ("compacter", {"bottleneck": 8, "division": 2, "rank": 3})),
    *(("compacter", {"bottleneck": 16, "share_factors": True}), ("lora", {"rank": 19})),
    *(("low_rank_adapter", {"bottleneck": 8, "rank": 7}), ("hadamard", {"norm": "both"})),
]


@pytest.mark.parametrize(("method", "options"), OPTIONS)
def test_other_shapes_and_options(method: str, options: dict[str, object]) -> None:
    backbone = tiny_backbone("bert")
    adapters = [checks.trained(backbone, method, SPEC, seed, options, size=0.1) for seed in range(3)]
    mine, reference, bodies = both(backbone, [*adapters, None])
    compare(mine, reference, ragged(backbone, 4), bodies)


def test_adapters_come_and_go_without_a_new_recording() -> None:
    backbone = tiny_backbone("bert")
    methods = ["hadamard", "lora", None, "houlsby"]
    mine, reference, bodies = both(backbone, mixed(backbone, methods))
    compare(mine, reference, ragged(backbone, 4), bodies)
    assert mine.num_recorded == 1
    for seed in range(10, 40, 10):
        for number, adapter in enumerate(mixed(backbone, methods, seed)):
            if adapter is not None:
                for model in (mine, reference):
                    model.remove(bodies[number])
                    assert model.install(adapter.pack()) == bodies[number]
        compare(mine, reference, ragged(backbone, 4, seed), bodies)
    compare(mine, reference, ragged(backbone, 4), bodies[::-1])
    assert mine.num_recorded == 1


def test_other_kinds_and_other_sizes_are_recorded_once_each() -> None:
    backbone = tiny_backbone("bert")
    mine, reference, (first, second) = both(backbone, mixed(backbone, ["hadamard", "lora"]))
    small, large = ragged(backbone, 2), ragged(backbone, 9)  # 64 tokens are enough for eight rows
    for _ in range(2):
        compare(mine, reference, small, [first, first])
        compare(mine, reference, small, [first, 0])
        compare(mine, reference, small, [0, second])
        compare(mine, reference, small, [0, 0])
        compare(mine, reference, large, [0, *[first] * 8])
    assert mine.num_recorded == 4


def test_parts_that_moved_are_read_where_they_are_and_their_recordings_go() -> None:
    backbone = tiny_backbone("bert")
    mine, reference, bodies = both(backbone, mixed(backbone, ["hadamard", "houlsby"]))
    compare(mine, reference, ragged(backbone, 2), bodies)
    compare(mine, reference, ragged(backbone, 9), bodies * 4 + bodies[:1])
    for number in range(20):  # more than one step of growth
        late = checks.trained(backbone, "hadamard", SPEC, 50 + number, size=0.1)
        (slot,) = {model.install(late.pack()) for model in (mine, reference)}
        compare(mine, reference, ragged(backbone, 2), [slot, bodies[1]])
    assert 2 < mine.num_recorded < 20
    assert isinstance(mine._path, RecordedPath)
    assert len(mine._path._recordings) == 1, "the recording of the larger batch keeps memory of a moved part"


def test_only_so_many_recordings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "MAX_RECORDINGS", 2)
    backbone = tiny_backbone("bert")
    mine, reference, bodies = both(backbone, mixed(backbone, ["hadamard", "lora"]))
    kinds = [[bodies[0]] * 2, [bodies[1]] * 2, bodies]
    for number in (0, 1, 0, 2, 0, 1):  # kind 1 goes for kind 2, kind 0 is used in between
        compare(mine, reference, ragged(backbone, 2), kinds[number])
    assert mine.num_recorded == 4
    assert isinstance(mine._path, RecordedPath)
    assert len(mine._path._recordings) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ACTING)
def test_a_poisoned_row_is_seen_and_its_neighbours_keep_their_bits(method: str, bad: float) -> None:
    backbone = tiny_backbone("bert")
    encoded = ragged(backbone, 4)
    other = "lora" if method != "lora" else "houlsby"
    mine, reference, bodies = both(backbone, mixed(backbone, [method, method, None, other]))
    clean = mine.hidden(encoded, bodies)
    poison = checks.trained(backbone, method, SPEC, 0, size=0.1)
    for parameter in poison.body_parameters():
        parameter.data.view(-1)[-1] = bad
    for model in (mine, reference):
        model.remove(bodies[0])
        assert model.install(poison.pack()) == bodies[0]
    got, want = (model.hidden(encoded, bodies) for model in (mine, reference))
    assert torch.equal(got[0].isfinite(), want[0].isfinite())
    assert not got[0].isfinite().all()
    assert all(torch.equal(a, b) for a, b in zip(got[1:], clean[1:], strict=True))
    assert mine.num_recorded == 1


def test_what_padding_holds_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger batch with poisoned rows leaves nothing behind, and NaN in padding stays there."""
    backbone = tiny_backbone("bert")
    adapters = mixed(backbone, ["hadamard", "lora", "hadamard"])
    fresh, _, bodies = both(backbone, adapters)
    used, *_ = both(backbone, adapters)
    few = ragged(backbone, 2)
    clean = fresh.hidden(few, bodies[:2])
    poison = checks.trained(backbone, "hadamard", SPEC, 7, size=0.1)
    for parameter in poison.body_parameters():
        parameter.data.fill_(float("nan"))
    used.remove(bodies[2])
    used.install(poison.pack())
    assert not torch.cat(used.hidden(ragged(backbone, 5), [*bodies, bodies[2], bodies[2]])).isfinite().all()
    assert isinstance(used._path, RecordedPath)
    assert all(torch.equal(a, b) for a, b in zip(used.hidden(few, bodies[:2]), clean, strict=True))
    assert used.num_recorded == 1
    (recording,) = used._path._recordings.values()
    whole, tokens = recording.run(), sum(map(len, few))
    assert whole[tokens:].isnan().all(), "attention has no value for padding"
    assert whole[:tokens].isfinite().all()


def test_texts_that_several_tasks_read_run_once_below_their_layers() -> None:
    """Passes that end below a layer and passes that begin there are recorded, too."""
    backbone = tiny_backbone("bert")
    adapters = [
        checks.trained(backbone, "hadamard", SPEC, seed, {"layers": [1]}, size=0.1) for seed in range(4)
    ]
    mine, reference, bodies = both(backbone, adapters)
    (text,) = backbone.text.encode(["w1 w2 w3 w4 w5"])
    compare(mine, reference, [text] * 4, bodies)
    assert mine.num_recorded == 2


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in RECORDED])
def test_other_families_have_no_plan(family: str) -> None:
    assert plan_of(tiny_backbone(family)) is None


def test_what_it_cannot_do_right_goes_the_reference_way() -> None:
    backbone = tiny_backbone("bert")
    adapters = mixed(backbone, [*REFUSED, "hadamard"])
    adapters.append(checks.trained(backbone, "houlsby", SPEC, 3, {"pre_norm": True}, size=0.1))
    mine, reference, bodies = both(backbone, adapters)
    for chosen in ([bodies[0], 0], [bodies[2], bodies[1]]):
        got, want = (model.hidden(ragged(backbone, 2), chosen) for model in (mine, reference))
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert mine.passes["fast"] == mine.num_recorded == 0
    compare(mine, reference, ragged(backbone, 2), [bodies[1], 0])


class Doubling:
    """Something at a tap that is no bank."""

    replaces = idle = only_adds = False

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y * 2


def test_what_others_attach_is_not_left_out() -> None:
    backbone = tiny_backbone("bert")
    mine = ServedModel(backbone, path_of=RecordedPath.on)
    before = mine.hidden(ragged(backbone, 2), [0, 0])
    attach(backbone.model, backbone.taps[-1], Doubling())
    after = mine.hidden(ragged(backbone, 2), [0, 0])
    assert not torch.equal(before[0], after[0])
    assert mine.passes == {"fast": 1, "reference": 1}


def test_it_is_for_half_numbers_on_a_gpu() -> None:
    backbone = tiny_backbone("bert")
    assert RecordedPath.of(backbone, Banks(backbone)) is None
    assert RecordedPath.on(tiny_backbone("t5"), Banks(backbone)) is None
    backbone.round_to(torch.bfloat16)
    assert RecordedPath.of(backbone, Banks(backbone)) is None
    assert not isinstance(ServedModel(backbone)._path, RecordedPath)


def test_bfloat16_is_as_near_as_the_reference() -> None:
    exact, rounded = tiny_backbone("bert"), tiny_backbone("bert")
    rounded.round_to(torch.bfloat16)
    adapters = mixed(exact, ["hadamard", "lora", "houlsby", None])
    want = ServedModel(exact, fast=False)
    mine, reference, bodies = both(rounded, adapters)
    for adapter in adapters:
        if adapter is not None:
            want.install(adapter.pack())
    encoded = ragged(exact, 4)
    off = [
        torch.cat(
            [(a.float() - b).abs().flatten() for a, b in zip(got, want.hidden(encoded, bodies), strict=True)]
        )
        for got in (mine.hidden(encoded, bodies), reference.hidden(encoded, bodies))
    ]
    assert mine.passes["fast"] == 1
    assert off[0].mean() <= off[1].mean() * 1.05


def test_a_bucket_has_room_and_little_padding() -> None:
    sizes = set()
    for tokens in range(1, 3000):
        for rows in {1, max(1, tokens // 8), tokens}:
            bucket = Bucket.of(tokens, rows, tokens)
            assert bucket.tokens >= tokens
            assert bucket.rows >= rows
            assert bucket.longest >= tokens
            assert bucket.tokens <= max(64, 1.5 * max(tokens, 8 * rows))
            sizes.add(bucket.tokens)
    assert len(sizes) <= 20
