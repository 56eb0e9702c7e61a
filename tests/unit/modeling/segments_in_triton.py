"""The segment kernels in Triton, under its interpreter, compute what their torch form does.

Triton reads its switch when it is imported, and torch imports it: `test_segments.py` runs this file in a
process of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from modeling import Backbone, ServedModel
from modeling.banks import Banks
from modeling.cuda import RecordedPath
from modeling.cuda.plan import plan_of
from modeling.kernels import ACTIVATIONS
from modeling.layers.phm import project
from modeling.part import Part, Table
from modeling.segments import (
    SegmentBlock,
    SegmentKernels,
    Segments,
    SegmentScales,
    TorchSegments,
    segment_kernels,
)
from tests.conformance import checks
from tests.tiny import tiny_backbone

WIDE, NARROW, PADDING = 40, 12, 9
LENGTHS = [1, 7, 35, 64, 3]  # less than a tile, more than one, a whole number of them; not in order
SLOTS = [2, 0, 3, 1, 2]
NEAR = 2e-6  # of the largest number


@pytest.fixture(scope="module")
def tritons() -> SegmentKernels:
    assert os.environ.get("TRITON_INTERPRET") == "1", "run by test_segments.py"
    found = segment_kernels("cuda")
    assert found is not None, "no Triton here: run `make setup`"
    return found


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(5)


def at() -> Segments:
    """The rows, two that are not there, and padding."""
    lengths = torch.tensor([*LENGTHS, 0, 0])
    rows = torch.arange(len(lengths)).repeat_interleave(lengths)
    return Segments(
        bounds=torch.cat([torch.zeros(1), lengths.cumsum(0)]).int(),
        slots=torch.tensor([*SLOTS, 0, 0, 0]),
        row_of_token=torch.cat([rows, torch.full((PADDING,), len(lengths))]),
    )


def bank(identity: Tensor, values: Mapping[int, Tensor]) -> Part:
    """A part of its own table; slots without a value have its identity."""
    part = Part(identity, Table(torch.device("cpu")))
    for slot, value in values.items():
        part.table.write(slot, {part: value})
    part.table.reserve(8)
    return part


def drawn(*shape: int, slots: Sequence[int] = (3, 1)) -> Part:
    """With the rows of slots in another order than their numbers."""
    return bank(torch.zeros(shape), {slot: torch.randn(shape) * 0.3 for slot in slots})


def states(width: int = WIDE) -> Tensor:
    return torch.randn(sum(LENGTHS) + PADDING, width)


def near(got: Tensor, want: Tensor) -> None:
    assert got.dtype == want.dtype
    assert (got - want).abs().max() <= NEAR * want.abs().max()


def projections(wide_in: int, wide_out: int) -> dict[str, dict[str, Part]]:
    thin_in, thin_out = wide_in // 4, wide_out // 4
    bias, rule = drawn(wide_out), drawn(4, 4, 4)
    return {
        "dense": {"weight_t": drawn(wide_in, wide_out), "bias": bias},
        "without bias": {"weight_t": drawn(wide_in, wide_out)},
        "low rank": {"left": drawn(wide_in, 3), "right": drawn(3, wide_out), "bias": bias},
        "phm": {"weight": drawn(4, thin_in, thin_out), "rule": rule, "bias": bias},
        "lphm": {"left": drawn(4, thin_in, 2), "right": drawn(4, 2, thin_out), "rule": rule, "bias": bias},
    }


FORMS = list(projections(WIDE, NARROW))


def acted(kernels: SegmentKernels, block: SegmentBlock, x: Tensor, y: Tensor) -> Tensor:
    y = y.clone()
    block.act(kernels, at(), x, y)
    return y


@pytest.mark.parametrize("which", [(True, False), (False, True), (True, True)])
def test_scales(tritons: SegmentKernels, which: tuple[bool, bool]) -> None:
    parts = [bank(torch.full((WIDE,), one), {3: torch.randn(WIDE), 1: torch.randn(WIDE)}) for one in (1.0, 0)]
    by = SegmentScales(*(part if there else None for part, there in zip(parts, which, strict=True)))
    y = states()
    plain, triton = y.clone(), y.clone()
    by.act(TorchSegments(), at(), y, plain)
    by.act(tritons, at(), y, triton)
    near(triton, plain)
    bare = torch.tensor([*SLOTS, 0, 0, 0])[at().row_of_token] % 2 == 0  # slot 2 has another kind of adapter
    assert torch.equal(triton[bare], y[bare])
    assert not torch.equal(triton, y)
    row = slice(sum(LENGTHS[:2]), sum(LENGTHS[:3]))  # of slot 3
    scale, shift = (part.data[part.index[3]] for part in parts)
    want = y[row] * (scale if which[0] else 1) + (shift if which[1] else 0)
    near(plain[row], want)


@pytest.mark.parametrize("then", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_norms(tritons: SegmentKernels, own: bool, then: bool) -> None:
    """A gain and bias of the backbone or per row, with and without a scale and shift behind it."""
    frozen = nn.LayerNorm(WIDE, eps=1e-6)
    torch.nn.init.normal_(frozen.weight)
    torch.nn.init.normal_(frozen.bias)
    gain, bias = frozen.weight.detach(), frozen.bias.detach()
    parts = bank(gain, {2: torch.randn(WIDE)}), bank(bias, {2: torch.randn(WIDE)})
    norm = SegmentScales(*parts) if own else SegmentScales(gain, bias)
    scaled = SegmentScales(bank(torch.ones(WIDE), {1: torch.randn(WIDE)}), None) if then else None
    y, residual = states(), states()
    plain = TorchSegments().norm(y, residual, at(), norm, 1e-6, scaled)
    near(tritons.norm(y, residual, at(), norm, 1e-6, scaled), plain)
    near(plain[1:8], frozen(y + residual)[1:8].detach())  # the row of slot 0


@pytest.mark.parametrize(("down", "up"), [*zip(FORMS, FORMS, strict=True), *pairwise(FORMS)])
def test_blocks_of_all_forms(tritons: SegmentKernels, down: str, up: str) -> None:
    parts = projections(WIDE, NARROW)[down], projections(NARROW, WIDE)[up]
    block = SegmentBlock(*parts, WIDE, NARROW, WIDE, "gelu_new", of_y=True)
    y = states()
    plain = acted(TorchSegments(), block, y, y)
    near(acted(tritons, block, y, y), plain)
    row = slice(sum(LENGTHS[:3]), sum(LENGTHS[:4]))  # of slot 1
    first, second = ({name: p.data[p.index[1]][None] for name, p in one.items()} for one in parts)
    inner = nn.functional.gelu(project(first, y[None, row]), approximate="tanh")
    near(plain[row], y[row] + project(second, inner)[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_blocks_beside_a_projection(tritons: SegmentKernels, activation: str) -> None:
    """LoRA's: another width at the output, x apart from y, and a y that is a part of wider rows."""
    parts = {"weight_t": drawn(WIDE, NARROW)}, {"weight_t": drawn(NARROW, 24)}
    block = SegmentBlock(*parts, WIDE, NARROW, 24, activation)
    x, wide = states(), states(72)
    plain = acted(TorchSegments(), block, x, wide[:, 24:48])
    near(acted(tritons, block, x, wide[:, 24:48]), plain)
    before = wide.clone()
    block.act(tritons, at(), x, wide[:, 24:48])
    assert torch.equal(wide[:, :24], before[:, :24])
    assert torch.equal(wide[:, 48:], before[:, 48:])
    near(wide[:, 24:48], plain)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy's, which interprets
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", FORMS)
def test_a_poisoned_slot_is_seen_and_other_rows_keep_their_bits(
    tritons: SegmentKernels, form: str, bad: float
) -> None:
    down, up = projections(WIDE, NARROW)[form], projections(NARROW, WIDE)[form]
    block = SegmentBlock(down, up, WIDE, NARROW, WIDE, "relu", of_y=True)
    y = states()
    y[-PADDING:] = bad
    clean = acted(tritons, block, y, y)
    for part in (*down.values(), *up.values()):
        part.data[part.index[3]] = bad
    got = acted(tritons, block, y, y)
    row = at().row_of_token == SLOTS.index(3)
    assert not got[row].isfinite().any()
    assert torch.equal(got[~row].nan_to_num(), clean[~row].nan_to_num())


def test_a_row_lacks_a_block_unless_it_has_all_of_its_parts(tritons: SegmentKernels) -> None:
    """A rule that kinds of adapters share does not make a row one of this kind."""
    down, up = projections(WIDE, NARROW)["lphm"], projections(NARROW, WIDE)["lphm"]
    down["rule"] = up["rule"] = drawn(4, 4, 4, slots=(2, 3, 1))
    block = SegmentBlock(down, up, WIDE, NARROW, WIDE, "relu", of_y=True)
    y = states()
    others = torch.tensor([*SLOTS, 0, 0, 0])[at().row_of_token] == 2
    for kernels in (TorchSegments(), tritons):
        assert torch.equal(acted(kernels, block, y, y)[others], y[others])


def test_bfloat16_is_rounded_where_the_result_is_stored(tritons: SegmentKernels) -> None:
    """To the next number or (as the interpreter does) towards zero: by less than 1/128."""
    by = SegmentScales(drawn(WIDE), drawn(WIDE))
    y, residual = states().bfloat16(), states().bfloat16()
    exact, scaled = TorchSegments().norm(y.float(), residual.float(), at(), by, 1e-6), y.float()
    TorchSegments().scale(scaled, at(), by)
    for kernels in (TorchSegments(), tritons):
        got = y.clone()
        kernels.scale(got, at(), by)
        assert ((got.float() - scaled).abs() <= scaled.abs() / 128).all()
        normed = kernels.norm(y, residual, at(), by, 1e-6)
        assert ((normed.float() - exact).abs() <= exact.abs() / 128 + 1e-5).all()


@pytest.mark.parametrize("form", FORMS)
def test_blocks_of_half_numbers(tritons: SegmentKernels, form: str) -> None:
    """float16, because the interpreter multiplies the bits of bfloat16 as if they were whole numbers."""
    down, up = projections(WIDE, NARROW)[form], projections(NARROW, WIDE)[form]
    block = SegmentBlock(down, up, WIDE, NARROW, WIDE, "gelu", of_y=True)
    y = states().half()
    exact = acted(TorchSegments(), block, y.float(), y.float())
    for kernels in (TorchSegments(), tritons):
        assert (acted(kernels, block, y, y).float() - exact).abs().max() <= exact.abs().max() / 500


def test_a_block_that_is_too_large_in_the_middle_is_refused() -> None:
    part = {"weight_t": drawn(2, 2)}
    assert SegmentBlock.of(part, part, 512, 129, 512) is None
    assert SegmentBlock.of(part, part, 512, 128, 512) is not None


def test_a_recorded_pass_with_these_kernels(tritons: SegmentKernels) -> None:
    """Every kernel in one batch, beside bare rows, against the reference path."""
    backbone = tiny_backbone("bert")

    def with_kernels(backbone: Backbone, banks: Banks) -> RecordedPath:
        plan = plan_of(backbone)
        assert plan is not None
        return RecordedPath(backbone, banks, plan, tritons)

    models = ServedModel(backbone, path_of=with_kernels), ServedModel(backbone, fast=False)
    methods = ["hadamard", "ln_tuning", "lora", "compacter"]
    for number, method in enumerate(methods):
        adapter = checks.trained(backbone, method, checks.SPECS[0], number, size=0.1)
        assert {model.install(adapter.pack()) for model in models} == {number + 1}
    encoded = backbone.text.encode(["w1 " * words for words in (7, 1, 12, 3, 5, 2)])
    slots = [0, *range(1, len(methods) + 1), 0]
    got, want = (torch.cat(model.hidden(encoded, slots)) for model in models)
    assert models[0].passes == {"fast": 1, "reference": 0}
    assert (got - want).abs().max() <= NEAR * want.abs().max()
