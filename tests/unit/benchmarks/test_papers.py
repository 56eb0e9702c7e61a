"""Our counts give every percentage that the papers print."""

import pytest

from benchmarks import papers


@pytest.mark.parametrize("architecture", papers.PAPERS)
def test_every_printed_percentage_is_ours(architecture: str) -> None:
    """Printed to a thousandth or a hundredth, some rounded and some cut off."""
    for row, _, share in papers.shares(architecture):
        digits = len(row.printed.partition(".")[2]) or 3
        assert abs(share - float(row.printed)) < 10.0**-digits, (row.method, row.options)


def test_the_table_has_a_line_for_each_row_of_the_paper() -> None:
    text = papers.table("t5-small")
    assert text.count("\n") == 1 + len(papers.PAPERS["t5-small"])
    assert "| `compacter_pp` | `division=4` | 35,456 | 0.0586 % | 0.059 % |" in text
