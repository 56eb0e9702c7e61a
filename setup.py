"""The row kernels (modeling/kernels), built with the package: a library for each vector instruction set.

Each is optional: without a compiler, or where it does not know a level's flags, the package installs too.
"""

import hashlib
import platform
from pathlib import Path

from setuptools import Extension, setup  # type: ignore[import-untyped]  # of the build alone

SOURCES = sorted(Path("modeling/kernels").glob("*.[ch]"))  # rows.c and what it includes
# No fast-math: what the flags allow is to join products and sums, and not to count floating-point exceptions.
FLAGS = ["-O3", "-std=gnu11", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
_AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]
_X86 = {"avx512": _AVX512, "avx2": ["-mavx2", "-mfma"]}
LEVELS: dict[str, list[str]] = {"plain": []} | (_X86 if platform.machine() in ("x86_64", "AMD64") else {})


def library(level: str, flags: list[str]) -> Extension:
    """A library that tells which source it is of, so that one left behind by another is not loaded."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
    return Extension(
        f"modeling.kernels.rows_{level}",
        ["modeling/kernels/rows.c", "modeling/kernels/text.c"],
        extra_compile_args=[*FLAGS, *flags],
        extra_link_args=["-fopenmp"],
        libraries=["m"],
        define_macros=[("SOURCE", f'"{digest}"')],
        depends=["setup.py", *(path.as_posix() for path in SOURCES)],
        optional=True,
    )


if __name__ == "__main__":
    setup(ext_modules=[library(level, flags) for level, flags in LEVELS.items()])
