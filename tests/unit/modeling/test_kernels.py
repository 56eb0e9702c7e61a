"""The row kernels one by one, and how their library is found."""

from __future__ import annotations

import logging
import shutil
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modeling import ServedModel
from modeling.kernels import ACTIVATIONS, Attention, Kernels, Normal, Rows, Scales, library
from modeling.layout import Layout
from modeling.ops.block import ACTIVATIONS as REFERENCE
from modeling.part import Part, Table
from tests.tiny import tiny_backbone

BUILT = [
    level for level in library.levels() if (library._HERE / f"rows_{level}{EXTENSION_SUFFIXES[0]}").exists()
]
SLOTS = torch.zeros(1, dtype=torch.int64)


def one_row(tokens: int) -> Rows:
    return Rows(Layout.of(np.array([tokens]), torch.device("cpu")), SLOTS)


@pytest.mark.parametrize("level", BUILT)
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name])
def test_activations_are_the_librarys(level: str, name: str) -> None:
    kernels = library.opened(level)
    grid = torch.cat([torch.linspace(-12, 12, 24_001), torch.tensor([-1e4, -88.0, -30.0, 30.0, 88.0, 1e4])])
    x = grid[None].clone()
    kernels.scale(x, one_row(1), Scales(), name)
    want = REFERENCE[name](grid.double())
    assert (x[0].double() - want).abs().max() <= 4e-7 * 12
    assert ((x[0].double() - want).abs() <= 4e-7 * grid.abs().clamp_min(1)).all()


@pytest.mark.parametrize("level", BUILT)
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_what_is_not_a_number_comes_through(level: str, name: str) -> None:
    x = torch.full((1, 37), float("nan"))
    library.opened(level).scale(x, one_row(1), Scales(), name)
    assert x.isnan().all()


@pytest.mark.parametrize("level", BUILT)
@pytest.mark.parametrize("width", [5, 32, 384])
def test_norm(level: str, width: int) -> None:
    x, residual = 3 * torch.randn(7, width) + 2, torch.randn(7, width)
    norm = nn.LayerNorm(width)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    want = norm(x + residual).detach()
    own = Scales.of(norm.weight.detach(), norm.bias.detach())
    got = library.opened(level).norm(x, residual, one_row(7), own, Normal(norm.eps, 1))
    torch.testing.assert_close(got, want, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("level", BUILT)
@pytest.mark.parametrize(("heads", "width"), [(2, 5), (3, 32), (2, 64), (1, 80)])
def test_attention_keeps_rows_apart(level: str, heads: int, width: int) -> None:
    lengths = np.array([1, 2, 7, 16, 33])
    total, hidden = int(lengths.sum()), heads * width
    at = Rows(Layout.of(lengths, torch.device("cpu")), torch.zeros(5, dtype=torch.int64))
    qkv, out = torch.randn(total, 3 * hidden), torch.empty(total, hidden)
    library.opened(level).attention(qkv, out, Attention.of(heads, width), at, 5)
    for start, length in zip(at.layout.starts, lengths, strict=True):
        own = qkv[start : start + length].double().view(length, 3, heads, width).permute(1, 2, 0, 3)
        want = nn.functional.scaled_dot_product_attention(*own).transpose(0, 1).reshape(length, hidden)
        torch.testing.assert_close(out[start : start + length].double(), want, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("level", BUILT)
def test_attention_adds_a_bias_by_distance(level: str) -> None:
    """Up to a row that is as long as the table reaches; what lies behind a row's keys does not matter."""
    lengths, heads, width, reach = np.array([1, 7, 16, 33]), 3, 32, 33
    at = Rows(Layout.of(lengths, torch.device("cpu")), torch.zeros(4, dtype=torch.int64))
    qkv, out, near = torch.randn(57, 288), torch.empty(57, 96), torch.randn(heads, 2 * reach - 1)
    table = torch.cat([near, torch.full((heads, 17), 1e9)], 1)
    library.opened(level).attention(qkv, out, Attention.of(heads, width, 0.7, table), at, 4)
    for start, length in zip(at.layout.starts, lengths, strict=True):
        q, k, v = qkv[start : start + length].double().view(length, 3, heads, width).permute(1, 2, 0, 3)
        distance = torch.arange(length) - torch.arange(length)[:, None]
        scores = 0.7 * q @ k.mT + near[:, distance + reach - 1]
        want = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, 96)
        torch.testing.assert_close(out[start : start + length].double(), want, rtol=1e-5, atol=4e-6)


@pytest.mark.parametrize("what", ["q", "k", "v"])
def test_attention_hides_nothing(what: str) -> None:
    """A bad number in one row's queries, keys or values makes that row bad, and no other."""
    for level in BUILT:
        at = Rows(Layout.of(np.array([3, 4]), torch.device("cpu")), torch.zeros(2, dtype=torch.int64))
        qkv, out = torch.randn(7, 96), torch.empty(7, 32)
        qkv[4, "qkv".index(what) * 32 + 5] = float("nan")
        library.opened(level).attention(qkv, out, Attention.of(1, 32), at, 2)
        assert out[:3].isfinite().all()
        assert not out[4].isfinite().any() if what != "v" else out[3:, 5].isnan().all()


@pytest.mark.parametrize("level", BUILT)
def test_bfloat16_is_rounded_as_torch_does(level: str) -> None:
    """To the nearest, to even ones between two; infinities, NaN and the smallest stay what they were."""
    upper = torch.arange(-(2**15), 2**15, dtype=torch.int32) << 16
    exact = torch.cat([upper + lower for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    values = exact.view(torch.float32)
    y = torch.zeros(1, len(values), dtype=torch.bfloat16)
    shift = values.clone()
    part = Part(torch.zeros_like(shift), table := Table(torch.device("cpu")))
    table.write(1, {part: shift})
    at = Rows(Layout.of(np.array([1]), torch.device("cpu")), torch.ones(1, dtype=torch.int64))
    library.opened(level).scale(y, at, Scales.of(None, part))
    torch.testing.assert_close(y[0], values.bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("level", BUILT)
@pytest.mark.parametrize("width", [5, 32, 80])
def test_halves_are_summed_in_float32_and_rounded_once(level: str, width: int) -> None:
    lengths = np.array([1, 2, 7, 16, 33])
    at = Rows(Layout.of(lengths, torch.device("cpu")), torch.zeros(5, dtype=torch.int64))
    qkv, heads, c = torch.randn(59, 6 * width), 2, library.opened(level)
    x, r = (torch.randn(59, 2 * width).bfloat16() for _ in "xr")
    norm = nn.LayerNorm(2 * width)
    nn.init.normal_(norm.weight)
    own = Scales.of(norm.weight.detach(), norm.bias.detach())
    wide = [y.float() for y in (x, r)]
    exact = c.norm(wide[0], wide[1], at, own, Normal(norm.eps, 1))
    torch.testing.assert_close(c.norm(x, r, at, own, Normal(norm.eps, 1)), exact.bfloat16(), rtol=0, atol=0)
    half, exact = torch.empty(59, 2 * width, dtype=torch.bfloat16), torch.empty(59, 2 * width)
    c.attention(qkv.bfloat16(), half, Attention.of(heads, width), at, 5)
    c.attention(qkv.bfloat16().float(), exact, Attention.of(heads, width), at, 5)
    torch.testing.assert_close(half, exact.bfloat16(), rtol=0, atol=0)


def test_without_a_library_the_reference_runs_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "_HERE", tmp_path)
    library.kernels.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            models = [ServedModel(tiny_backbone("bert")) for _ in range(2)]
    finally:
        library.kernels.cache_clear()
    for model in models:
        model.hidden(model.backbone.text.encode(["w1"]), [0])
        assert model.passes == {"fast": 0, "reference": 1}
    (line,) = caplog.messages
    assert "was not built" in line
    assert "pip install -e ." in line


@pytest.mark.skipif(not BUILT, reason="no kernels were built")
@pytest.mark.parametrize("name", ["rows.c", "vectors.h"])
def test_a_library_of_another_source_is_not_loaded(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for path in (next(library._HERE.glob(f"rows_{BUILT[0]}*")), *library._HERE.glob("*.[ch]")):
        shutil.copy(path, tmp_path)
    (tmp_path / name).write_text("another", encoding="utf-8")
    monkeypatch.setattr(library, "_HERE", tmp_path)
    with pytest.raises(OSError, match="built of another"):
        library.opened(BUILT[0])
    assert isinstance(Kernels, type)
