"""Tokens with tags and spans by character: every way in which files have them, and what is refused by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.conftest import quick, write_rows
from training.data.load import TaskData, load_data
from training.errors import ConfigError, DataError
from training.rows.examples import WordSpans
from training.rows.tables import read_table
from training.rows.tags import scheme_of

Rows = list[dict[str, Any]]
OTHERS: Rows = [
    {"text": f"nothing {k} at all", "entities": [{"start": 0, "end": 7, "label": "x"}][: k % 2]}
    for k in range(6)
]


def load(path: Path, rows: Rows | str, **changes: Any) -> TaskData:
    """Of rows in a file, beside as many validation rows."""
    if isinstance(rows, str):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rows, encoding="utf-8")
    else:
        write_rows(path, rows)
    validation = path.with_name(path.name.replace("train", "validation"))
    validation.write_bytes(path.read_bytes())
    return load_data(quick(path.parent, path.parent / "o", **changes))


def found(data: TaskData) -> list[tuple[str, list[tuple[str, str]]]]:
    """Text, and (label, its text) of each span, of the train rows."""
    rows = []
    for row in data.train.examples:
        assert isinstance(row.target, WordSpans)
        text = str(row.text)
        spans = [(data.task.class_names[label], text[start:end]) for start, end, label in row.target.spans]
        rows.append((text, spans))
    return rows


WANTED = [
    ("John Smith lives in New York .", [("PER", "John Smith"), ("LOC", "New York")]),
    ("Rome Oslo are cities", [("LOC", "Rome"), ("LOC", "Oslo")]),
    ("none here", []),
]
TOKENS = [text.split() for text, _ in WANTED]
IOB2 = ["B-PER I-PER O O B-LOC I-LOC O", "B-LOC B-LOC O O", "O O"]
SCHEMES = {
    "BIO": IOB2,
    "IOB1": ["I-PER I-PER O O I-LOC I-LOC O", "I-LOC B-LOC O O", "O O"],
    "BILOU": ["B-PER L-PER O O B-LOC L-LOC O", "U-LOC U-LOC O O", "O O"],
    "BIOES": ["B-PER E-PER O O B-LOC E-LOC O", "S-LOC S-LOC O O", "O O"],
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("form", ["lists", "conll", "conll of four columns", "text and tags", "csv"])
def test_every_scheme_in_every_form_gives_the_same_spans(tmp_path: Path, scheme: str, form: str) -> None:
    tags = [line.split() for line in SCHEMES[scheme]]
    name, kind = "train.jsonl", {}
    if form == "lists":
        rows: Rows | str = [{"tokens": a, "ner_tags": b} for a, b in zip(TOKENS, tags, strict=True)]
    elif form == "text and tags":
        rows = [{"text": " ".join(a), "tags": " ".join(b)} for a, b in zip(TOKENS, tags, strict=True)]
        kind = {"kind": "token_labels"}
    elif form == "csv":
        name, kind = "train.csv", {"kind": "token_labels"}
        lines = [f'"{a!r}","{b!r}"\n' for a, b in zip(TOKENS, tags, strict=True)]
        rows = "tokens,tags\n" + "".join(lines)
    else:
        between = " " if form == "conll" else "\tNNP\tI-NP\t"
        name = "train.conll" if form == "conll" else "train.txt"
        sentences = [
            "".join(f"{a}{between}{b}\n" for a, b in zip(*row, strict=True))
            for row in zip(TOKENS, tags, strict=True)
        ]
        start = "-DOCSTART- O\n\n" if form == "conll" else "-DOCSTART-\t-X-\tO\tO\n\n"
        rows = start + "\n".join(sentences)
    data = load(tmp_path / "data" / name, rows, **kind)
    assert found(data) == WANTED
    assert data.task.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert (data.page.kind, dict(data.page.labels)) == ("token_labels", {"LOC": 6, "PER": 2})
    assert [note for note in data.notes if "tags are" in note] == (
        []
        if scheme == "BIO"
        else [f"tags are {scheme}; they are read as entities, and the file will say B- and I-"]
    )
    assert "1 train rows have no label at all, which is learnt as such" in data.notes


def test_numbers_are_places_in_the_names_of_the_tags(tmp_path: Path) -> None:
    names = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    rows: Rows = [
        {"tokens": a, "tags": [names.index(tag) for tag in b.split()]}
        for a, b in zip(TOKENS, IOB2, strict=True)
    ]
    data = load(tmp_path / "a" / "train.jsonl", rows, label_names=names)
    assert found(data) == WANTED
    assert data.task.labels == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    with pytest.raises(
        DataError, match="numbers are places in the names of the tags: give these with --label-n"
    ):
        load(tmp_path / "b" / "train.jsonl", rows)


@pytest.mark.parametrize("form", ["objects", "triples", "cell"])
def test_spans_by_character(tmp_path: Path, form: str) -> None:
    spans = [
        [
            {"start": 0, "end": 10, "label": "PER", "id": 7},
            {"start": 20, "end": 28, "label": "LOC", "text": "New York"},
        ],
        [{"start": 5, "end": 9, "label": "LOC"}, {"start": 0, "end": 4, "label": "LOC"}],
        [],
    ]
    values: list[Any] = list(spans)
    if form == "triples":
        values = [[[one["start"], one["end"], one["label"]] for one in row] for row in spans]
    if form == "cell":
        values = [str(row) for row in spans]
    rows = [{"text": text, "spans": value} for (text, _), value in zip(WANTED, values, strict=True)]
    assert found(load(tmp_path / "data" / "train.jsonl", rows, kind="token_labels")) == WANTED


def test_space_at_the_ends_of_a_span_is_cut_off_and_told(tmp_path: Path) -> None:
    row = {"text": "in  Rome now", "entities": [{"start": 2, "end": 9, "label": "x"}]}
    data = load(tmp_path / "data" / "train.jsonl", [*OTHERS, row])
    assert found(data)[-1] == ("in  Rome now", [("x", "Rome")])
    assert "2 spans begin or end with a space (train.jsonl, row 7), which is cut off" in data.notes


@pytest.mark.parametrize(
    ("text", "entities", "wanted"),
    [
        (
            "Rome",
            [{"start": 0, "end": 5, "label": "x"}],
            r"\[0\] 0 to 5 in a text of 4 characters; a span begins",
        ),
        ("Rome", [{"start": 2, "end": 2, "label": "x"}], r"\[0\] 2 to 2 in a text of 4 characters"),
        ("Rome", [{"start": -1, "end": 2, "label": "x"}], r"\[0\] -1 to 2"),
        ("a  b", [{"start": 1, "end": 3, "label": "x"}], "a span of spaces, 1 to 3"),
        (
            "a b c",
            [{"start": 0, "end": 3, "label": "x"}, {"start": 2, "end": 5, "label": "y"}],
            "spans over each other",
        ),
        (
            "a b",
            [{"start": 0, "end": 1, "label": "x"}, {"start": 0, "end": 1, "label": "x"}],
            "spans over each other",
        ),
        ("Rome", [{"start": "0", "end": 4, "label": "x"}], 'a span is {"start": 3, "end": 8, "label": "X"}'),
        ("Rome", [{"start": True, "end": 4, "label": "x"}], "a span is"),
        ("Rome", [{"start": 0, "end": 4}], "a span is"),
        (
            "Rome",
            [{"start": 0, "end": 4, "label": "x", "text": "Rom"}],
            "'Rom', and 'Rome' stands from 0 to 4",
        ),
        ("Rome", None, "every row needs a label"),
        ("Rome", "no list", "tags are a list with one tag for each token"),
        (None, [], "fill it in"),
        (["Rome"], [{"start": 0, "end": 1, "label": "x"}], "spans are places in a text"),
        (["Rome", "Oslo"], ["B-x"], "1 tags for 2 tokens"),
        (["Rome", 5], ["B-x", "O"], "a text is a string"),
        (["Rome"], [0.5], "the tag 0.5"),
    ],
)
def test_what_cannot_be_learnt_is_refused_by_row(
    tmp_path: Path, text: Any, entities: Any, wanted: str
) -> None:
    rows = [*OTHERS, {"text": text, "entities": entities}]
    with pytest.raises(DataError, match=wanted) as error:
        load(tmp_path / "data" / "train.jsonl", rows, kind="token_labels")
    assert "train.jsonl, row 7, field" in str(error.value)


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        (["B-x", "y"], "the tag 'y' stands beside 'B-x'; write every tag as O, B-LABEL or I-LABEL"),
        (["x-B", "x-I"], "the tag 'x-B' has its mark behind; write it in front, as B-LABEL"),
        (["U-x", "E-x"], "tags begin with E, U; write them in one scheme"),
    ],
)
def test_tags_of_several_schemes_are_refused(tmp_path: Path, tags: list[str], wanted: str) -> None:
    with pytest.raises(DataError, match=wanted):
        load(tmp_path / "data" / "train.jsonl", [{"tokens": ["a", "b"], "tags": tags}] * 4)


def test_impossible_tags_are_read_as_beginnings_and_told(tmp_path: Path) -> None:
    rows: Rows = [
        {"tokens": ["a", "b", "c"], "tags": ["B-x", "O", "I-x"]},
        {"tokens": ["a", "b", "c"], "tags": ["B-x", "I-y", "I-y"]},
    ]
    data = load(tmp_path / "data" / "train.jsonl", rows)
    assert [spans for _, spans in found(data)] == [[("x", "a"), ("x", "c")], [("x", "a"), ("y", "b c")]]
    (told,) = [note for note in data.notes if "cannot follow" in note]
    assert told.startswith(
        "4 tags in 4 rows cannot follow what is before them (train.jsonl, row 1: 'I-x' at token 2)"
    )


def test_bare_labels_are_told(tmp_path: Path) -> None:
    data = load(
        tmp_path / "data" / "train.jsonl",
        [
            {"tokens": list("abc"), "tags": ["x", "x", "O"]},
            *[{"tokens": list("abc"), "tags": ["O", "y", "x"]}],
        ],
    )
    assert [spans for _, spans in found(data)] == [[("x", "a b")], [("y", "b"), ("x", "c")]]
    assert "tags are labels without B- and I-: neighbours with one label are one entity" in data.notes


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("a B-x\nb\n", "row 2: found 1 columns, 'b'; the lines before have 2"),
        ("a b B-x\nb O\n", "row 2: found 2 columns"),
        ("only words\n\nhere\n", "row 3: found 1 columns"),
        ("text\n", "row 1: found 'text'; it is read as CoNLL, a word and its tag on every line"),
        ("a O\n\tB-x\n", "row 2: found"),
    ],
)
def test_conll_lines_of_another_form_are_named(tmp_path: Path, content: str, wanted: str) -> None:
    with pytest.raises(DataError, match=wanted):
        load(tmp_path / "data" / "train.conll", content)


def test_conll_comments_and_a_hash_that_is_a_word(tmp_path: Path) -> None:
    content = "# id 7 of the set\n# O\n1 B-x\n\n#id domain=en\na O\n#b O\n\n\n\nc B-x"
    rows = found(load(tmp_path / "data" / "train.conll", content))
    assert rows == [("# 1", [("x", "1")]), ("a #b", []), ("c", [("x", "c")])]


def test_rows_of_conll_are_numbered_by_their_first_line(tmp_path: Path) -> None:
    content = "a B-x\n\nb O\n\nc B-x\nd"
    with pytest.raises(DataError, match="train.conll, row 6"):
        load(tmp_path / "data" / "train.conll", content)
    data = load(tmp_path / "more" / "train.conll", "-DOCSTART- O\n\na B-x\nb O\n\nc O\n")
    assert [row.row for row in data.train.examples] == [3, 6]


def test_a_label_is_none_of_those_that_were_given(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2, field 'entities': found label 'x'; allowed: 'a', 'b'"):
        load(tmp_path / "data" / "train.jsonl", OTHERS, label_names=("a", "b"))


def test_a_label_that_looks_like_a_tag_is_one_all_the_same(tmp_path: Path) -> None:
    rows = [{**row, "entities": [{**one, "label": "S-bahn"} for one in row["entities"]]} for row in OTHERS]
    data = load(tmp_path / "data" / "train.jsonl", rows, label_names=("S-bahn", "U-bahn"))
    assert data.task.labels == ("O", "B-S-bahn", "I-S-bahn", "B-U-bahn", "I-U-bahn")


def test_entities_beside_another_label_change_nothing(tmp_path: Path) -> None:
    rows = [row | {"label": "ab"[k % 2]} for k, row in enumerate(OTHERS)]
    assert load(tmp_path / "a" / "train.jsonl", rows).page.kind == "single_sentence"
    assert load(tmp_path / "b" / "train.jsonl", rows, label_field="entities").page.kind == "token_labels"


def test_two_text_fields_are_refused(tmp_path: Path) -> None:
    rows = [row | {"more": "text"} for row in OTHERS]
    with pytest.raises(ConfigError, match="kind token_labels takes 1 text field"):
        load(tmp_path / "data" / "train.jsonl", rows, text_fields=("text", "more"))


_TAGS = st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"]), min_size=1, max_size=8)


@given(st.lists(_TAGS, min_size=1, max_size=4))
def test_spans_of_any_tags_are_sound_and_written_again_the_same(rows: list[list[str]]) -> None:
    """Whatever the tags: each tagged word is in one span, and spans written as IOB2 are read the same."""
    scheme = scheme_of(rows, "rows")
    for tags in rows:
        spans, odd = scheme.spans(tags)
        covered = [place for first, last, _ in spans for place in range(first, last + 1)]
        assert covered == [place for place, tag in enumerate(tags) if tag != "O"]
        again = ["O"] * len(tags)
        for first, last, label in spans:
            again[first : last + 1] = [f"B-{label}", *[f"I-{label}"] * (last - first)]
        assert scheme_of([again], "again").spans(again) == (spans, [])
        assert not set(odd) - set(covered)


def test_a_file_of_one_row_with_several_entities_is_a_row(tmp_path: Path) -> None:
    """An object that holds objects is a wrapper around rows in a .json alone."""
    row = {"text": "Ada met Bob", "entities": [{"start": 0, "end": 3}, {"start": 8, "end": 11}]}
    line = json.dumps(row)
    (tmp_path / "rows.jsonl").write_text(line, encoding="utf-8")
    assert read_table([tmp_path / "rows.jsonl"]).values("text") == ["Ada met Bob"]
    (tmp_path / "rows.json").write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match="the rows stand under 'entities'"):
        read_table([tmp_path / "rows.json"])
