"""CSV and TSV as people write them: separators, marks, line ends, quotes; and what is refused by row."""

from pathlib import Path

import pytest

from training.errors import DataError
from training.rows.csv_file import _BLOCK_BYTES
from training.rows.tables import Table, read_batches, read_table


def table_of(folder: Path, content: bytes | str, name: str = "a.csv") -> Table:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    table = read_table([path])
    columns = [[v for batch in read_batches([path], 2) for v in batch.values(c)] for c in table.columns]
    assert columns == [table.values(c) for c in table.columns], "batches differ from the whole"
    return table


def rows_of(folder: Path, content: bytes | str, name: str = "a.csv") -> list[tuple[str, ...]]:
    table = table_of(folder, content, name)
    return list(zip(*(table.values(column) for column in table.columns), strict=True))


PLAIN = [("good, or not", "a"), ("bad; indeed | so", "b")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"good, or not",a\nbad; indeed | so,b\n'),
        ("a.csv", 'text;label\ngood, or not;a\n"bad; indeed | so";b\n'),
        ("a.csv", "text\tlabel\ngood, or not\ta\nbad; indeed | so\tb"),
        ("a.csv", 'text|label\r\ngood, or not|a\r\n"bad; indeed | so"|b\r\n'),
        ("a.tsv", "text\tlabel\ngood, or not\ta\nbad; indeed | so\tb\n"),
        ("a.tsv", "text;label\ngood, or not;a\n'bad'; b\n".replace("'bad'; b", '"bad; indeed | so";b')),
        ("a.csv", '\ufeff"text";"label"\r\n"good, or not";"a"\r\n"bad; indeed | so";"b"\r\n'),
        ("a.csv", 'sep=;\r\ntext;label\r\ngood, or not;a\r\n"bad; indeed | so";b\r\n'),
        ("a.csv", '\n\ntext,label\r\r"good, or not",a\r\rbad; indeed | so,b\r'),
        ("A.CSV", 'text , label\n"good, or not",a\nbad; indeed | so,b'),
    ],
)
def test_a_table_is_read_however_it_is_written(tmp_path: Path, name: str, content: str) -> None:
    assert rows_of(tmp_path, content, name) == PLAIN
    assert list(table_of(tmp_path, content, name).columns) == ["text", "label"]


def test_a_separator_that_is_not_the_usual_is_told(tmp_path: Path) -> None:
    assert table_of(tmp_path, "text;label\na;b\n").notes == ("a.csv: columns are separated by ';'",)
    assert table_of(tmp_path, "text,label\na,b\n").notes == ()


def test_the_rows_decide_where_a_column_name_holds_a_separator(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "text;price, with tax\nhello;1\nworld, too;2\n") == [
        ("hello", "1"),
        ("world, too", "2"),
    ]
    with pytest.raises(DataError, match=r"row 1: separated by ',' or ';'\?"):
        table_of(tmp_path, "price, in euro;label\n1,5;a\n2,5;b\n")


def test_one_column_needs_no_separator(tmp_path: Path) -> None:
    assert rows_of(tmp_path, 'text\nhello; you\n"a, b"\n""\n\nlast') == [
        ("hello; you",),
        ("a, b",),
        ("",),
        ("last",),
    ]


def test_cells_stay_texts(tmp_path: Path) -> None:
    cells = ["01", "1e5", "NA", "null", "true", "", "nan", " x ", "2020-01-02", "1.0"]
    assert rows_of(tmp_path, "a,b\n" + "".join(f"{cell},{cell}\n" for cell in cells)) == [
        (c, c) for c in cells
    ]


def test_quotes_and_line_ends_inside_cells(tmp_path: Path) -> None:
    content = 'text,label\r\n"one\r\ntwo, ""three""",a\r\n"""",b\r\n5" pipe,"c"\r\n'
    assert rows_of(tmp_path, content) == [('one\r\ntwo, "three"', "a"), ('"', "b"), ('5" pipe', "c")]


@pytest.mark.parametrize("length", [140_000, 5_000_000])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_cell_has_any_length(tmp_path: Path, length: int, quoted: bool) -> None:
    long = ("line\n" if quoted else "words ") * (length // 5)
    cell = f'"{long}"' if quoted else long
    content = f"text,label\nfirst,a\n{cell},b\nlast,c\n"
    assert rows_of(tmp_path, content) == [("first", "a"), (long, "b"), ("last", "c")]


def test_rows_beyond_one_block(tmp_path: Path) -> None:
    expected = [(f'text {i} é "x"\n' * 9, str(i % 7)) for i in range(_BLOCK_BYTES // 60)]
    lines = ['"{}",{}\n'.format(text.replace('"', '""'), label) for text, label in expected]
    table = table_of(tmp_path, "text,label\n" + "".join(lines))
    assert list(zip(table.values("text"), table.values("label"), strict=True)) == expected
    assert table.where(len(expected) - 1) == f"a.csv, row {len(expected) + 1}"


def test_columns_without_a_name_are_ignored_and_told(tmp_path: Path) -> None:
    table = table_of(tmp_path, ",text,label,\n0,a,b,\n1,c,d,\n")
    assert table.values("text") == ["a", "c"]
    assert list(table.columns) == ["text", "label"]
    assert table.notes == ("a.csv: 2 column(s) without a name ignored",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.csv: the file is empty"),
        (b"\n\n", "row 1: no column has a name"),
        (b"\xef\xbb\xbf", "row 1: no column has a name"),
        (b"text,label,text\na,b,c\n", "row 1: several columns are called text"),
        (
            b"text,label\na,b\nc\n",
            r"row 3: found 1 cells, the header has 2 \(text, label\).* add the missing",
        ),
        (b"text,label\na,b\n\nc,d,e\n", "row 3: found 3 cells.* put quotes around cells that hold ','"),
        (b"text;label\na;b\nc;d;e\n", "row 3: found 3 cells.* put quotes around cells that hold ';'"),
        (b"text,label\na,b,\n", "row 2: found 3 cells.* remove ',' at the end"),
        (b'text,label\na,b\n"c,d\ne,f\n', "row 3: not CSV .*close the quote"),
        (b'text,label\na,b\n"c" d,e\n', "row 3: not CSV"),
        (b'text,label\n"a,b\nc,d\n"e,f\ng,h\n', "row 2: not CSV"),
        (b"text\nhello, you\n", "row 2: found 2 cells, the header has 1"),
        (b"text,label\nfine,a\nd\xe9j\xe0 vu,b\n", "row 3: not UTF-8, likely cp1252"),
        ("text,label\nпривет как дела,b\n".encode("cp1251"), "row 2: not UTF-8, likely cp1251"),
        ("text,label\nпривет как дела,b\n".encode("koi8-r"), "row 2: not UTF-8, likely koi8_r"),
        ("text,label\n今天天气很好,b\n".encode("gb18030"), "row 2: not UTF-8, likely gb18030"),
        ("text,label\n今日は天気がいい,b\n".encode("shift_jis"), "row 2: not UTF-8, likely shift_jis"),
        ("text,label\nto jest żółw i było źle,b\n".encode("cp1250"), "row 2: not UTF-8, likely cp1250"),
        ("text,label\nこんにちは世界,b\n".encode("euc_jp"), "row 2: not UTF-8, likely euc_jp"),
        ("text,label\n안녕하세요 반갑습니다,b\n".encode("euc_kr"), "row 2: not UTF-8, likely euc_kr"),
        ("text,label\na,b\n".encode("utf-16"), "row 1 is UTF-16: save it as UTF-8"),
        ("text,label\na,b\n".encode("utf-16-le"), "row 1 is likely UTF-16"),
        ("text,label\na,b\n".encode("utf-32"), "row 1 is UTF-32"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS.*git lfs pull"),
        (b"PK\x03\x04rest", "an Excel workbook or a zip"),
        (b"\x1f\x8brest", "packed by gzip: add .gz"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        table_of(tmp_path, content)
    assert str(raised.value).startswith("a.csv")
    assert "\n" not in str(raised.value)


def test_a_byte_that_is_not_utf8_far_behind_has_the_right_row(tmp_path: Path) -> None:
    rows = [b"text,label"] + [b'"%d\n",a' % i for i in range(300_000)]
    rows[250_000] = b"caf\xe9,a"
    with pytest.raises(DataError, match="a.csv, row 250001: not UTF-8"):
        table_of(tmp_path, b"\n".join(rows))


def test_a_character_cut_off_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2: not UTF-8"):
        table_of(tmp_path, "text\ncafé".encode()[:-1])


def test_a_header_without_rows(tmp_path: Path) -> None:
    table = table_of(tmp_path, "text,label")
    assert (table.num_rows, table.values("text"), list(table.columns)) == (0, [], ["text", "label"])
    (batch,) = read_batches([tmp_path / "a.csv"])
    assert (batch.num_rows, list(batch.columns)) == (0, ["text", "label"])


GLUE = [
    ('"hello', "A"),
    ('foo bar"', "B"),
]


@pytest.mark.parametrize(
    "expected",
    [
        [('"hello', "A"), ('foo bar"', "B")],
        [('"hello" he said', "A"), ("fine", "B")],
        [('"', "A"), ("fine", "B")],
        [('say "yes"', "A"), ('"no', "B"), ("5 inch", "C")],
    ],
)
def test_quotes_in_tsv_that_quote_nothing_are_text_and_told(
    tmp_path: Path, expected: list[tuple[str, str]]
) -> None:
    content = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in expected)
    assert rows_of(tmp_path, content, "a.tsv") == expected
    assert "quotes are part of the texts" in table_of(tmp_path, content, "a.tsv").notes[0]


def test_quotes_in_tsv_that_quote_are_none(tmp_path: Path) -> None:
    content = 'text\tlabel\n"two\nlines"\tA\n"a ""tab""\t"\tB\n'
    assert rows_of(tmp_path, content, "a.tsv") == [("two\nlines", "A"), ('a "tab"\t', "B")]
    assert table_of(tmp_path, content, "a.tsv").notes == ()


def test_a_quoted_cell_over_lines_that_look_whole_is_told(tmp_path: Path) -> None:
    content = 'text,label\n"hello,A\nfoo bar",B\n'
    assert rows_of(tmp_path, content) == [("hello,A\nfoo bar", "B")]
    assert "every line by itself has all cells" in table_of(tmp_path, content).notes[0]
    content = 'text,label\n5" pipe,C\n"hello,A\nfoo bar",B\n'
    assert "every line by itself has all cells" in table_of(tmp_path, content).notes[0]
    assert table_of(tmp_path, 'text,label\n5" pipe,C\n"hello",A\n').notes == ()


def test_names_like_the_first_bytes_of_other_formats(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "par1,label\na,b\n") == [("a", "b")]
    assert rows_of(tmp_path, "ARROW1,label\na,b\n") == [("a", "b")]
