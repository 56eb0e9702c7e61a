"""Pure files stay pure in a running interpreter, and the command line starts without the heavy libraries.

The import contract (`lint-imports`) reads the sources; this asks Python, package initialisers included.
"""

import subprocess
import sys

import pytest

from tests.architecture.sources import PURE_MODULES, ROOT

HEAVY = {
    "torch",
    "transformers",
    "tokenizers",
    "fastapi",
    "starlette",
    "sklearn",
    "scipy",
    "pyarrow",
    "matplotlib",
}


def _imported_by(statement: str) -> set[str]:
    """The heavy libraries that a fresh interpreter holds after running one statement in the repository."""
    code = f"{statement}\nimport sys\nprint(*({HEAVY!r} & set(sys.modules)))"
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize("module", PURE_MODULES)
def test_a_pure_file_brings_no_heavy_library(module: str) -> None:
    assert _imported_by(f"import {module}") == set()


@pytest.mark.parametrize("module", ["trunkline", "trunkline.cli", "trunkline.client"])
def test_what_a_terminal_starts_is_light(module: str) -> None:
    assert _imported_by(f"import {module}") == set()


@pytest.mark.parametrize("module", ["training.rows.tables", "training.rows.files"])
def test_data_is_read_without_what_computes(module: str) -> None:
    assert _imported_by(f"import {module}") <= {"pyarrow"}


def test_a_heavy_import_is_seen() -> None:
    assert "starlette" in _imported_by("import starlette")
