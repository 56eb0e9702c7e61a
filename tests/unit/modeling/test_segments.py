"""The segment kernels in Triton: interpreted in a process of their own, and compiled for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from modeling.segments.calls import MAX_NARROW

ROOT = Path(__file__).parents[3]
TESTS = Path(__file__).with_name("segments_in_triton.py")


def test_triton_computes_what_torch_does() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


Compiled = Callable[[str, Mapping[str, str], Mapping[str, int]], int]
_SHARED_BYTES = 99 * 1024  # of a program, on the smallest GPUs that have bfloat16 (compute capability 8.6)
ROW = {"slots": "*i64", "row_of_token": "*i64", "width": "i32", "eps": "fp32"}


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    """Compiles a kernel for compute capability 8.6, which needs no GPU: bytes of shared memory it takes."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from modeling.segments import triton_form

    def compile_(name: str, kinds: Mapping[str, str], constants: Mapping[str, int]) -> int:
        kernel = getattr(triton_form, name)
        signature = {p.name: "constexpr" if p.name in constants else kinds[p.name] for p in kernel.params}
        made = triton.compile(ASTSource(kernel, signature, dict(constants)), target=GPUTarget("cuda", 86, 32))
        assert made.asm["cubin"]
        return int(made.metadata.shared)

    return compile_


def _operands(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "*fp32") | {f"{name}_index": "*i32" for name in names}


def test_vector_kernels_compile(compiled: Compiled) -> None:
    half = dict.fromkeys(("y", "residual", "out"), "*bf16")
    strides = dict.fromkeys(("stride", "y_stride", "residual_stride", "out_stride"), "i32")
    kinds = {**ROW, **half, **strides, **_operands("gain", "bias", "scale", "shift")}
    compiled("_scale", kinds, {"SCALE": 2, "SHIFT": 2, "LANES": 1024})
    compiled("_norm", kinds, {"GAIN": 1, "BIAS": 1, "SCALE": 2, "SHIFT": 2, "LANES": 1024})


@pytest.mark.parametrize(
    ("form", "narrow", "activation"),
    [(0, MAX_NARROW, 1), (1, 64, 2), (2, 64, 3), (3, MAX_NARROW, 4)],
)
def test_blocks_compile_and_fit(compiled: Compiled, form: int, narrow: int, activation: int) -> None:
    kinds = {"x": "*bf16", "y": "*bf16", "bounds": "*i32"}
    kinds |= dict.fromkeys(("slots", "rows", "firsts"), "*i64")
    kinds |= dict.fromkeys(("x_stride", "y_stride", "wide_in", "narrow", "wide_out"), "i32")
    for name in ("first", "second", "rule", "bias"):
        for side in ("in", "out"):
            kinds |= {f"{name}_{side}": "*fp32", f"{name}_{side}_at": "*i32", f"{name}_{side}_size": "i32"}
    division = 4 if form > 1 else 1
    constants = {"BIAS_IN": 1, "BIAS_OUT": 1, "ACTIVATION": activation, "TOKENS": 32, "WIDE": 64}
    constants |= {"DOWN": form, "DOWN_DIVISION": division, "DOWN_RANK": 2, "NARROW": narrow}
    constants |= {"UP": form, "UP_DIVISION": division, "UP_RANK": 2}
    assert compiled("_block", kinds, constants) <= _SHARED_BYTES
