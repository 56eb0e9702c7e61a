"""Inputs that stand in lines: texts, JSON; and tables that came as lines, which are refused."""

import pytest

from trunkline.bulk.lines import read_items
from trunkline.errors import Invalid


@pytest.mark.parametrize(
    "first", ["text,label", '"text";"label"', "\ufefftext\tlabel", "id|sentence", "Label,Text"]
)
def test_a_table_that_came_as_lines_is_refused(first: str) -> None:
    with pytest.raises(
        Invalid, match=r"a.txt, line 1: .* is the header of a table, and lines are texts.*--file"
    ):
        list(read_items([f"{first}\n", "x,a\n"], as_json=False, source="a.txt"))


def test_json_that_came_as_lines_of_text_is_refused() -> None:
    with pytest.raises(Invalid, match=r"stdin, line 1: .* is JSON, and lines are texts; give --jsonl"):
        list(read_items(['{"text": "x"}\n'], as_json=False, source="stdin"))


@pytest.mark.parametrize("line", ["text", "the label, please", "a, b", '{"a": 1}', "text and label"])
def test_lines_of_texts_are_texts(line: str) -> None:
    assert list(read_items([f"{line}\n"], as_json=False, source="stdin")) == [line]
