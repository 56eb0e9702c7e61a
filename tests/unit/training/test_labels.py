"""The law of labels: what a value is called, what numbers mean, what several labels look like."""

import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from training.errors import DataError
from training.rows.canonical import TargetError, canonical, in_order, occurrences
from training.rows.labels import Labels, looks_like_numbers, one_label, several_labels
from training.rows.printed import printed_list
from training.rows.several import looks_like_several, one_hot_columns
from training.rows.tables import Table


def found(values: Sequence[Any]) -> Any:
    return occurrences([Table.of([{"label": value} for value in values], "rows.csv")], "label")


def one(
    values: Sequence[Any], names: Sequence[str] | None = None, **more: Any
) -> tuple[list[str], list[str]]:
    """The name that each value means, and what is told."""
    labels, told = one_label(found(values), names, **more)
    return [labels.names[labels.index(value)] for value in values], told


def several(values: Sequence[Any], names: Sequence[str] | None = None) -> tuple[list[list[str]], list[str]]:
    labels, told = several_labels(found(values), names)
    return [[labels.names[index] for index in labels.indices(value)] for value in values], told


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2, "2"),
        (2.0, "2"),
        ("2", "2"),
        ("2.0", "2"),
        (Decimal("2.00"), "2"),
        (-0.0, "0"),
        (1e16, "10000000000000000"),
        ("1e+16", "10000000000000000"),
        (447700900123, "447700900123"),
        (0.5, "0.5"),
        ("01", "01"),
        ("1e5", "1e5"),
        ("1_000", "1_000"),
        ("٣", "٣"),
        (True, "true"),
        ("True", "true"),
        ("false", "false"),
        ("TRUE", "true"),
        (" a b\n", "a b"),
        (date(2024, 1, 2), "2024-01-02"),
    ],
)
def test_a_value_has_one_text(value: Any, text: str) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize("value", [["a"], {"a": 1}, float("inf"), b"a", None])
def test_what_is_no_label(value: Any) -> None:
    with pytest.raises(TargetError):
        canonical(value)


def test_names_are_in_their_natural_order() -> None:
    assert in_order(["10", "b", "2", "-1", "1.5", "a", "01"]) == ("-1", "1.5", "2", "10", "01", "a", "b")


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 1.0, 2.0, 10.0],
        [1, 2, 3, 5],
        [-1, 0, 1],
        ["01", "02", "1"],
        [447700900123, 447700900456],
        [2019.0, 2021.0],
        [True, False],
        ["b", "a"],
    ],
)
def test_a_value_without_names_means_itself(values: list[Any]) -> None:
    names, _ = one(values)
    assert names == [canonical(value) for value in values]


def test_only_as_many_names_as_there_are_different_values() -> None:
    assert one_label(found([10**12, 10**15]), None)[0].names == (str(10**12), str(10**15))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 4], ["1", "2", "4"]),  # every text is a name: names win
        ([1.0, "2", 4], ["1", "2", "4"]),
    ],
)
def test_a_number_that_is_a_name_is_that_name(values: list[Any], expected: list[str]) -> None:
    assert one(values, ["1", "2", "3", "4", "5"])[0] == expected


@pytest.mark.parametrize("values", [[0, 2, 1], ["0", "2", "1"], [0.0, 2.0, 1.0]])
def test_numbers_are_places_where_no_text_is_a_name_and_that_is_told(values: list[Any]) -> None:
    names, told = one(values, ["low", "middle", "high"])
    assert names == ["low", "high", "middle"]
    assert told == ["numbers are places in label_names: 0 = low, 1 = middle, 2 = high"]


@pytest.mark.parametrize(
    ("values", "names", "words"),
    [
        (
            ["low", 1],
            ["low", "high"],
            "label '1'; allowed: 'low', 'high'.*'low' in rows.csv, row 1 is a name",
        ),
        ([0, 1, 2], ["1", "2", "3"], "label '0'.*'1' in rows.csv, row 2 is a name, so no number is a place"),
        ([1, 2], ["a", "b"], "label '2'; allowed: 'a', 'b', or its place, 0 to 1, as the other rows have it"),
        ([0, -1], ["a", "b"], "-1 marks rows whose labels are hidden"),
        (["Low"], ["low", "high"], "label 'Low'.*it differs from 'low' only by case"),
        ([True], ["no", "yes"], "label 'true'"),
    ],
)
def test_what_is_neither_a_name_nor_a_place_is_refused(
    values: list[Any], names: list[str], words: str
) -> None:
    with pytest.raises(TargetError, match=words):
        one(values, names)


def test_numbers_are_no_places_in_names_that_were_taken_from_rows() -> None:
    with pytest.raises(TargetError, match="label '0'"):
        one([0, 1], ["no", "yes"], places=False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            ["spam", "Spam"],
            "labels 'Spam' .rows.csv, row 2. and 'spam' .rows.csv, row 1. differ only by case",
        ),
        (["spam", "spam\u200b"], "invisible characters"),
        (["caf\u00e9", "cafe\u0301"], "differ only"),
        (["1", "01"], "or zeros"),
        (["1.50", "1.5"], "or zeros"),
        (["a", "a ", "b"], None),
        (["a", 3], "numbers stand beside words as labels: '3' .rows.csv, row 2."),
        (["2", "2.0", "x"], "'2', '2.0' are one label, '2'"),
        (['"a"', "b"], "quotes of labels such as"),
        (
            ["True", "true", "no"],
            "'True', 'true' are one label, 'true'.*read as the booleans true and false: 'True'",
        ),
    ],
)
def test_what_a_person_may_want_to_correct_is_told(values: list[Any], words: str | None) -> None:
    told = " ; ".join(one(values)[1])
    if words is None:
        assert told == "no label_names given: 2 names were taken from the rows"
    else:
        assert re.search(words, told)


def test_two_names_that_are_one_label_are_refused() -> None:
    with pytest.raises(DataError, match="'1' and '1.0' are the same label"):
        Labels.of(["1", "2", "1.0"])


@pytest.mark.parametrize(
    "values",
    [
        [["a", "b"], ["b"], []],
        ["a|b", "b", ""],
        ["a; b", "b", ""],
        ["a,b", "b", ""],
        ["['a', 'b']", "['b']", "[]"],
        ['["a", "b"]', '["b"]', "[]"],
        ["['a' 'b']", "['b']", "[]"],
        [("a", "b"), ("b",), ()],
    ],
)
@pytest.mark.parametrize("names", [None, ["b", "a", "c"]])
def test_several_labels_in_every_form(values: list[Any], names: list[str] | None) -> None:
    read, told = several(values, names)
    assert [sorted(row) for row in read] == [["a", "b"], ["b"], []]
    assert any("split at" in one for one in told) == (str(values[0]) in ("a|b", "a; b", "a,b"))


@pytest.mark.parametrize(
    "values",
    [
        [[0, 1, 0], [1, 0, 1], [0, 0, 0]],
        [[False, True, False], [True, False, True], [False, False, False]],
        [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
        ["[0, 1, 0]", "[1, 0, 1]", "[0, 0, 0]"],
        ["[0 1 0]", "[1 0 1]", "[0 0 0]"],
        ["0,1,0", "1,0,1", "0,0,0"],
        [np.array([0, 1, 0]), np.array([1, 0, 1]), np.array([0, 0, 0])],
    ],
)
def test_noughts_and_ones_are_read_by_place(values: list[Any]) -> None:
    labels, told = several_labels(found(values), ["toxic", "insult", "threat"])
    plain = [one.value for one in found(values)]
    assert [labels.indices(value) for value in plain] == [(1,), (0, 2), ()]
    assert any("3 noughts and ones" in one for one in told)


def test_noughts_and_ones_that_do_not_fit_the_names_are_refused() -> None:
    with pytest.raises(DataError, match="lists of 3 noughts and ones.*there are 2 label names"):
        several([[0, 1, 0], [1, 1, 0]], ["a", "b"])
    labels, _ = several_labels(found([[0, 1, 0], [1, 1, 0]]), None)
    with pytest.raises(TargetError, match="a list of 3 noughts and ones"):
        labels.indices([0, 1])


@pytest.mark.parametrize(
    ("values", "names", "words"),
    [
        ([[1, 1], [0, 2]], None, "a label stands there twice"),
        ([[0, 1, 1], [0, 2]], ["a", "b", "c"], "a label stands there twice"),
        (["a|b", "a,x"], ["a", "b"], "label 'x'|label 'a,x'"),
        ([["a"], ["c"]], ["a", "b"], "label 'c'"),
        ([[["a"]], ["b"]], None, "a label is a text or a number"),
    ],
)
def test_what_are_no_several_labels(values: list[Any], names: list[str] | None, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        several(values, names)


def test_shares_and_two_separators_are_refused() -> None:
    with pytest.raises(DataError, match="rows.csv, row 1: the label lists hold 0.2"):
        several([[0.2, 0.8], [0.9, 0.1]])
    with pytest.raises(DataError, match=r"parted by ';' .rows.csv, row 1. and ',' .rows.csv, row 2."):
        several(["a;b", "a,b", "a", "b"])


def test_a_cell_whose_parts_are_no_labels_elsewhere_is_one_label_and_told() -> None:
    read, told = several(["London, UK", "Paris"])
    assert read == [["London, UK"], ["Paris"]]
    assert any("'London, UK' (rows.csv, row 1) is read as one label" in one for one in told)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([["a"], []], True),
        (["['a']", "[]"], True),
        (["a,b", "a", "b"], True),
        (["a,b", "a"], False),
        (["a", "b"], False),
        (["Paris, France", "London, UK"], False),
        (["[sic]", "b"], False),
    ],
)
def test_whether_rows_have_several_labels(values: list[Any], expected: bool) -> None:
    assert looks_like_several(found(values)) is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 1], True),
        (["0.5", "1"], True),
        ([1.0, 2.0], False),
        (["0.5", "x"], False),
        (["nan", "inf"], False),
    ],
)
def test_whether_labels_are_quantities(values: list[Any], expected: bool) -> None:
    assert looks_like_numbers(found(values)) is expected


def test_columns_of_noughts_and_ones() -> None:
    rows = [{"text": "x", "id": 7, "a": 0, "b": "1"}, {"text": "y", "id": 0, "a": 1, "b": "0"}]
    assert one_hot_columns(Table.of(rows)) == ("a", "b")
    assert one_hot_columns(Table.of([{**row, "a": None} for row in rows])) == ()


@pytest.mark.parametrize(
    "text",
    [
        "['a', 'b', ...]",
        "[0 1 ... 0]",
        "[b'a', b'c']",
        "['\\x']",
        "[New York]",
        "['a\nb']",
        "a",
        "[a] b",
        "(unknown)",
        "{x}",
        "[array([1])]",
        "['a'",
        "[['a']]",
        "[ham, [x]]",
    ],
)
def test_what_is_no_printed_list(text: str) -> None:
    assert printed_list(text) is None


def test_quotes_follow_json_or_python() -> None:
    assert printed_list(r'["\ud83d\ude42", "a\/b"]') == ["\U0001f642", "a/b"]
    assert printed_list("""['it\\'s', "x"]""") == ["it's", "x"]


def test_the_names_of_a_trained_task_are_met_by_name() -> None:
    labels, _ = one_label(found([0, 1, 2]), ["low", "middle", "other"])
    moved = labels.within(["middle", "low"])
    assert [moved.index(value) for value in (0, 1)] == [1, 0]
    with pytest.raises(TargetError, match="label 'other'; allowed: 'middle', 'low'; evaluate it on data"):
        moved.index(2)
    hot, _ = several_labels(found([[0, 1], [1, 0]]), ["a", "b"])
    assert hot.within(["b", "a"]).indices([0, 1]) == (0,)
    with pytest.raises(TargetError, match="place 0 is none of the adapter's labels"):
        hot.within(["b", "c"]).indices([1, 0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0,1,0", "1,0,0", "0,0,1"], True),  # noughts and ones in a cell
        (["0,5", "1,5"], False),  # decimal commas
        (["billing/urgent", "billing", "urgent"], True),
        (["New York", "York", "Paris"], False),
        (["['a', 'b']", "a", "c"], True),
        (["{'a', 'b'}", "set()"], True),
        (["array(['a', 'b'], dtype=object)", "array(['a'], dtype=object)"], True),
        (["[BUG]", "[FEATURE]"], False),
    ],
)
def test_other_forms_of_several_labels(values: list[Any], expected: bool) -> None:
    assert looks_like_several(found(values)) is expected


def test_one_label_that_looks_like_several_is_told() -> None:
    told = one(["billing", "refund", "billing,urgent"])[1]
    assert any(
        "'billing,urgent' (rows.csv, row 3) is learnt as one label and looks like several" in t for t in told
    )


@pytest.mark.parametrize(
    "values", [["billing/urgent", "billing", "urgent"], ["billing\nurgent", "billing", "urgent"]]
)
def test_seldom_separators_part_labels_that_stand_alone_too(values: list[str]) -> None:
    assert several(values)[0] == [["billing", "urgent"], ["billing"], ["urgent"]]


def test_words_in_brackets_without_quotes() -> None:
    assert several(["[BUG]|x", "[BUG]"])[0] == [["[BUG]", "x"], ["[BUG]"]]
    with pytest.raises(DataError, match="rows.csv, row 1: '.ham, eggs.' is no list that can be read"):
        several(["[ham, eggs]", "[ham]"])


def test_a_printed_null_is_no_label() -> None:
    with pytest.raises(TargetError, match="found null"):
        several(["['a', nan]", "['b']"])


def test_a_few_rows_of_another_form_are_the_ones_that_are_refused() -> None:
    rows = [[0, 1, 0], [1, 0, 1], [0, 0, 0]] * 10
    labels, _ = several_labels(found([*rows, [0, 1]]), ["a", "b", "c"])
    assert labels.indices([1, 0, 1]) == (0, 2)
    with pytest.raises(TargetError, match=r"\[0, 1\]; a row is a list of 3 noughts and ones"):
        labels.indices([0, 1])
    labels, told = one_label(found([0, 1, -1]), ["no", "yes"])
    assert (labels.index(1), told[0]) == (1, "numbers are places in label_names: 0 = no, 1 = yes")
    with pytest.raises(TargetError, match="label '-1'.*labels are hidden"):
        labels.index(-1)


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], [{"a": 1}]])
def test_values_that_are_no_labels_at_all_are_shown(value: Any) -> None:
    with pytest.raises(DataError, match="rows.csv, row 1: found"):
        several([value] * 3) if isinstance(value, list) else one([value] * 3)


@pytest.mark.parametrize("value", ["9" * 5000, "1.5e999", "1e+400"])
def test_texts_that_would_be_huge_numbers(value: str) -> None:
    assert one([value, "a"])[0] == [canonical(value), "a"]
    with pytest.raises(TargetError):
        one([value], ["a", "b"])


def test_decimal_commas_are_told() -> None:
    assert any("decimal comma" in told for told in one(["1,5", "2,25"])[1])
