"""Sources and targets: against strings recorded from the official code, and what we write otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.formats import (
    FORMATS,
    Formatter,
    Scale,
    choose_formatter,
    official_name,
    scale_for,
)
from training.formats.official import CODE_SCALE, with_prefix
from training.formats.rewriting import mark_words, spaced_punctuation, without_highlights, without_markup
from training.metrics.scores import Metric
from training.rows.labels import Labels
from training.tasks import Task
from training.tasks.free_text import FreeText
from training.tasks.regression import Regression
from training.tasks.single_label import SingleLabel

MNLI = {"premise": "P.", "hypothesis": "H.", "label": 2}
COPA = {"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 1}


@pytest.fixture(scope="session")
def recorded(oracles: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((oracles / "tasks" / "task_format.json").read_text())
    return loaded


def _rows(example: dict[str, Any]) -> list[dict[str, Any]]:
    if "example" in example:
        return [example["example"]]
    columns = example["batch"]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.mark.shared_data
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("prefix", [True, False])
def test_every_task_is_written_as_the_official_code_writes_it(
    recorded: dict[str, Any], name: str, prefix: bool
) -> None:
    for example in recorded["examples"][name]:
        wanted = example["with_prefix" if prefix else "without_prefix"]
        found = [one for row in _rows(example) for one in learnt(name, row, prefix=prefix)]
        plural = "batch" in example
        assert [source for source, _ in found] == (wanted["source"] if plural else [wanted["source"]])
        assert [target for _, target in found] == (wanted["target"] if plural else [wanted["target"]])


def learnt(
    name: str, row: dict[str, Any], *, prefix: bool = False, official_code: bool = True
) -> list[tuple[str, str]]:
    """Source and target of every example that training makes of a row."""
    formatter = Formatter(name, FORMATS[name].fields, name if prefix else "", official_code=official_code)
    task = _task(name).as_text(formatter)
    names = [str(index) for index in range(FORMATS[name].classes or 0)]
    target = task.parse(row["answers" if task.writes else "label"], Labels.of(names))
    return [(formatter.source(row), string) for string in task.strings(task.learnt(target))]


def _task(name: str) -> Task:
    if FORMATS[name].free_text:
        return FreeText((), Metric("f1"))
    if FORMATS[name].scale is not None:
        return Regression(("label",), Metric("pearson"))
    return SingleLabel(tuple(map(str, range(FORMATS[name].classes or 0))), Metric("accuracy"))


@pytest.mark.shared_data
def test_every_recorded_task_is_there_with_its_labels_and_its_split(recorded: dict[str, Any]) -> None:
    assert set(recorded["examples"]) == set(FORMATS)
    rules = {
        "halve validation": "halve",
        "1000 of train as validation": "thousand",
        "native": "files",
    }
    for name, labels in recorded["labels_list"].items():
        format_ = FORMATS[name]
        strings = format_.scale.strings if format_.scale else tuple(map(str, range(format_.classes or 0)))
        assert strings == tuple(labels or ()), name
        assert format_.split_rule == rules[recorded["splits"][name]["strategy"]], name


@pytest.mark.shared_data
def test_numbers_become_the_recorded_classes(recorded: dict[str, Any]) -> None:
    paper = FORMATS["stsb"].scale
    assert paper is not None
    for scale, kind in ((CODE_SCALE, "official"), (paper, "nearest_0_2")):
        for number, string in recorded[f"stsb_rounding_{kind}"].items():
            assert scale.strings[scale.index(float(number))] == string


def test_the_slips_of_the_official_code_are_put_right_unless_asked_for() -> None:
    def source(name: str, row: dict[str, Any], official_code: bool) -> str:
        return learnt(name, row, official_code=official_code)[0][0]

    assert source("mnli", MNLI, False) == "premise: P. hypothesis: H."
    assert source("mnli", MNLI, True) == "premise: P. hypothesis H."
    assert source("superglue-copa", COPA, False) == "premise: P. choice1: A. choice2: B. question: cause"
    assert source("superglue-copa", COPA, True) == "premise: P. choice1: A. choice2: B."
    stsb = {"sentence1": "a", "sentence2": "b", "label": 2.5}
    assert [learnt("stsb", stsb, official_code=code)[0][1] for code in (False, True)] == ["2.4", "2.5"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("ax+b", 0), ("it", 2), "* ax+b * and # it # ."),
        (("it", 2), ("ax+b", 0), "# ax+b # and * it * ."),
    ],
)
def test_marked_words(first: tuple[str, int], second: tuple[str, int], expected: str) -> None:
    """In either order, with characters that mean something in a pattern."""
    assert mark_words("ax+b and it .", first, second) == expected


def test_a_word_that_is_not_there_is_not_marked() -> None:
    assert mark_words("ax+b and it .", ("no", 1), ("none", 0)) == "ax+b and it ."


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("rte", {"sentence1", "sentence2", "label"}, "rte"),
        ("rte", {"premise", "hypothesis"}, "superglue-rte"),
        ("copa", {"premise", "choice1", "choice2", "question"}, "superglue-copa"),
        ("copa", {"premise", "choice1"}, None),
        ("boolq_small", {"question", "passage"}, "superglue-boolq"),
        ("mnli_small", {"premise", "hypothesis"}, "mnli"),
        ("wsc", {"text", "span1_text", "span1_index", "span2_text", "span2_index"}, "superglue-wsc.fixed"),
        ("banking77", {"sentence"}, None),
        (None, {"sentence"}, None),
    ],
)
def test_the_official_task_of_a_data_set(name: str | None, fields: set[str], expected: str | None) -> None:
    assert official_name(name, frozenset(fields)) == expected


def _choose(wanted: str, name: str | None, fields: tuple[str, ...], **changes: Any) -> Formatter:
    options: dict[str, Any] = {"prefix": False, "targets": "digits", "official_code": False}
    return choose_formatter(wanted, name, fields, frozenset(fields), **(options | changes))


def test_other_data_is_written_as_named_fields() -> None:
    plain = _choose("auto", "intents", ("title", "body"), prefix=True)
    assert plain.source({"title": "T", "body": "B", "other": 1}) == "intents title: T body: B"
    assert plain.label_strings(("no", "yes")) == ("0", "1")
    assert _choose("fields", "rte", ("sentence1", "sentence2")).name == "fields"
    words = _choose("auto", None, ("text",), targets="words", prefix=True)
    assert words.label_strings(("no", "yes")) == ("no", "yes")
    assert words.source({"text": "x"}) == "text: x"


def test_a_format_that_does_not_fit_is_named() -> None:
    with pytest.raises(KeyError, match="format is 'rt'; allowed: auto, fields, mrpc"):
        _choose("rt", None, ("text",))
    with pytest.raises(KeyError, match=r"format rte needs the field\(s\) sentence1, sentence2"):
        _choose("rte", None, ("text",))


@pytest.mark.parametrize("name", ["rte", "stsb", "superglue-wic", "fields"])
def test_a_formatter_survives_the_adapter_file(name: str) -> None:
    fields = ("sentence1", "sentence2", "word")
    formatter = _choose(name, "some", fields, prefix=True, official_code=True)
    again = Formatter.from_config(json.loads(json.dumps(formatter.to_config())))
    assert again == formatter
    row = dict.fromkeys(fields, "x")
    assert again.source(row) == formatter.source(row)
    assert (again.scale is not None) == (name == "stsb")
    with pytest.raises(KeyError):
        Formatter.from_config(formatter.to_config() | {"name": "nothing"})


def test_a_scale_writes_what_its_steps_need() -> None:
    assert Scale(0.0, 1.0, 5).strings == ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0")
    assert scale_for(0.0, 5.0).strings == tuple(f"{i / 5:.1f}" for i in range(26))
    assert scale_for(-300.0, 1000.0).strings[:2] == ("-300.0", "-250.0")
    assert scale_for(2.0, 2.0).strings


@given(low=st.floats(-1e4, 1e4), width=st.floats(1e-3, 1e5), share=st.floats(0, 1))
def test_a_scale_of_any_range_is_small_and_nearest(low: float, width: float, share: float) -> None:
    scale = scale_for(low, low + width)
    assert 2 <= len(scale.strings) <= 32
    assert len(set(scale.strings)) == len(scale.strings)
    number = low + share * width
    nearest = min(abs(value - number) for value in scale.values)
    assert abs(scale.values[scale.index(number)] - number) <= nearest + 1e-6 * max(1.0, abs(number))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_form_that_names_its_fields(name: str) -> None:
    form = Formatter(name, FORMATS[name].fields).form()
    assert {"{", "}"} <= set(form)


# Held by the recorded values above as well, where the public data is.


def test_rewriting_by_hand() -> None:
    assert without_markup("<b>One</b>.<br>Two") == "One. Two"
    assert (
        without_highlights('He said "no."\n@highlight\nThen\n@highlight\nmore') == 'He said "no." Then. more'
    )
    assert spaced_punctuation("It's  3.5% of_all,\té́s") == "It ' s 3 . 5 % of_all , é́s"
    marked = mark_words("Ann told Bob that she won", ("Ann", 0), ("she", 4))
    assert marked == "* Ann * told Bob that # she # won"
    marked = mark_words("Before she won Ann told Bob", ("Ann", 3), ("she", 1))
    assert marked == "Before # she # won * Ann * told Bob"


def test_numbers_become_the_nearest_class_within_the_range() -> None:
    scale = Scale(0.0, 5.0, 5)
    assert [scale.index(number) for number in (-3.0, 0.0, 0.29, 0.31, 4.95, 99.0)] == [0, 0, 1, 2, 25, 25]
    assert (scale.values[1], scale.values[-1], len(scale.values)) == (0.2, 5.0, 26)
    assert (scale.strings[0], scale.strings[1], scale.strings[-1]) == ("0.0", "0.2", "5.0")
    assert Scale(-1.0, 1.0, 1).strings == ("-1.0", "0.0", "1.0")
    assert Scale(10.0, 30.0, 0.5).index(13.1) == 2


@pytest.mark.parametrize(
    ("low", "high", "per_unit"), [(0, 5, 5), (0, 1, 20), (0, 3.1, 10), (0, 3.2, 5), (0, 100, 0.2), (0, 31, 1)]
)
def test_a_scale_has_the_finest_steps_with_32_classes(low: float, high: float, per_unit: float) -> None:
    scale = scale_for(low, high)
    assert scale.per_unit == pytest.approx(per_unit)
    assert len(scale.values) <= 32


def test_prefixes_stand_in_front() -> None:
    assert with_prefix("source", "rte") == "rte source"
    assert with_prefix("source", "") == "source"
