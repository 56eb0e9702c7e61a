"""Finds the library that was built of `rows.c` for this processor.

Without one (no compiler where the package was built, an old build beside a new source) everything runs on the
reference path; the log says so, once.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

from .calls import Kernels
from .text import TextKernels

_HERE = Path(__file__).parent
# By what torch found out about the processor, best first.
_LEVELS = {"AVX512": ("avx512", "avx2", "plain"), "AVX2": ("avx2", "plain")}
_REMEDY = (
    "batches run on the reference path, which is slower; with a C compiler, `pip install -e .` builds it"
)
_LOG = logging.getLogger(__name__)


@cache
def kernels() -> Kernels | None:
    """The row kernels for this processor; None, with one line in the log, where there are none."""
    failures = []
    for level in levels():
        try:
            return opened(level)
        except OSError as error:
            failures.append(str(error))
    _LOG.warning("no row kernels (%s): %s", "; ".join(failures), _REMEDY)
    return None


@cache
def text_kernels() -> TextKernels | None:
    """Those of `text.c`, which are in the same libraries; None where there are none."""
    for level in levels():
        try:
            opened(level)  # it was built of the source beside it
        except OSError:
            continue
        return TextKernels(ctypes.CDLL(str(_place(level))))
    return None


def levels() -> tuple[str, ...]:
    """The levels of vector instructions that this processor has, best first."""
    return _LEVELS.get(torch.backends.cpu.get_cpu_capability(), ("plain",))


def opened(level: str) -> Kernels:
    """The kernels of one level. Raises OSError if they were not built, or not of the source beside them."""
    place = _place(level)
    made = Kernels(ctypes.CDLL(str(place)))
    sources = sorted(_HERE.glob("*.[ch]"))  # as setup.py has them
    if made.source != hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest():
        raise OSError(f"{place.name} was built of another rows.c")
    return made


def _place(level: str) -> Path:
    """Raises OSError if it was not built."""
    places = [_HERE / f"rows_{level}{suffix}" for suffix in EXTENSION_SUFFIXES]
    found = [path for path in places if path.is_file()]
    if not found:
        raise OSError(f"rows_{level} was not built")
    return found[0]
