"""The tables in the documents are what the code says today, and the script that writes them notices."""

import subprocess
import sys

import pytest

from scripts.generate_docs import renewed, table
from tests.architecture.sources import ROOT


def test_nothing_generated_in_the_documents_is_stale() -> None:
    command = [sys.executable, "scripts/generate_docs.py", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_table_is_replaced_and_the_rest_left_alone() -> None:
    text = "before\n<!-- generated: service-settings -->\nstale row\n<!-- end generated -->\nafter\n"
    new = renewed(text)
    assert new.startswith("before\n<!-- generated: service-settings -->\n| flag | variable |")
    assert new.endswith("<!-- end generated -->\nafter\n")
    assert "`TRUNKLINE_PORT`" in new
    assert "stale row" not in new
    assert renewed(new) == new


def test_the_published_hadamard_count_is_in_the_methods_table() -> None:
    """Two vectors and a norm in each of 12 layers, 12 x 4 x 768: Chen et al. 2023, arXiv 2407.11033."""
    new = renewed("<!-- generated: counts bert-base -->\n<!-- end generated -->\n")
    assert "| `hadamard` | 36,864 |" in new


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        renewed("<!-- generated: nonsense -->\n<!-- end generated -->\n")


def test_a_cell_cannot_break_its_row() -> None:
    assert table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |\n"
