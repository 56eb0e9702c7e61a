"""The tables in the documents are what the code says today, and the script that writes them notices."""

import subprocess
import sys

import pytest

from scripts.generate_tables import renewed, table
from tests.architecture.sources import ROOT


@pytest.mark.parametrize("script", ["scripts/generate_tables.py", "scripts/generate_docs.py"])
def test_nothing_generated_in_the_documents_is_stale(script: str) -> None:
    command = [sys.executable, script, "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_table_is_replaced_and_the_rest_left_alone() -> None:
    text = "before\n<!-- table: service-settings -->\nstale row\n<!-- end table -->\nafter\n"
    new = renewed(text)
    assert new.startswith("before\n<!-- table: service-settings -->\n| flag | variable |")
    assert new.endswith("<!-- end table -->\nafter\n")
    assert "`TRUNKLINE_PORT`" in new
    assert "stale row" not in new
    assert renewed(new) == new


def test_the_published_hadamard_count_is_in_the_methods_table() -> None:
    """Two vectors and a norm in each of 12 layers, 12 x 4 x 768: Chen et al. 2023, arXiv 2407.11033."""
    new = renewed("<!-- table: methods bert-base -->\n<!-- end table -->\n")
    assert "| `hadamard` | 36,864 |" in new


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        renewed("<!-- table: nonsense -->\n<!-- end table -->\n")


def test_a_cell_cannot_break_its_row() -> None:
    assert table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |\n"
