"""CoNLL: a word and its tags a line, in columns parted by spaces or tabs; an empty line ends a sentence.

The first column is the word, the last its tag, as in the files of the CoNLL-2003 task (Tjong Kim Sang and De
Meulder 2003). Lines of `-DOCSTART-` part documents and are no sentence; a line in front of a sentence that
begins with `#` and has another form than the words is a comment.
"""

import io
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from training.errors import DataError
from training.rows.opening import check_utf8, open_bytes, refusing
from training.rows.tags import is_tag
from training.rows.values import Part, part_of

WORDS, TAGS = "tokens", "tags"
"""What the two columns are called as fields."""
_DOCUMENT = "-DOCSTART-"
_BETWEEN = re.compile(r"[ \t]+")
_Sentence = tuple[int, dict[str, list[str]]]


def read_conll(path: Path, max_rows: int) -> Iterator[Part]:
    """Parts of at most `max_rows` sentences; a row's number is the line of its first word.

    Raises:
        DataError: no UTF-8, or a line with another number of columns than the first, with the row.
    """
    yield Part({WORDS: [], TAGS: []})
    with refusing(path), open_bytes(path) as file:
        rows = _sentences(path, io.TextIOWrapper(file, "utf-8-sig", "surrogateescape"))
        while chunk := list(islice(rows, max_rows)):
            yield part_of(chunk)


def _sentences(path: Path, lines: io.TextIOWrapper) -> Iterator[_Sentence]:
    words: list[str] = []
    tags: list[str] = []
    first = width = 0
    for number, line in enumerate(lines, 1):
        cells = _BETWEEN.split(line.strip(" \t\r\n")) if line.strip() else [_DOCUMENT]
        if cells[0] != _DOCUMENT and not (not words and _is_comment(cells, width)):
            check_utf8(path, number, line)
            width = width or len(cells)
            _check_width(path, number, line, cells, width)
            first = first if words else number
            words.append(cells[0])
            tags.append(cells[-1])
        elif words:
            yield first, {WORDS: words, TAGS: tags}
            words, tags = [], []
    if words:
        yield first, {WORDS: words, TAGS: tags}


def _is_comment(cells: list[str], width: int) -> bool:
    """By its form; in front of the first word, by whether its last column could be a tag."""
    other = len(cells) != width if width else not is_tag(cells[-1])
    return cells[0].startswith("#") and (other or "=" in cells[-1])


def _check_width(path: Path, number: int, line: str, cells: list[str], width: int) -> None:
    expected = "it is read as CoNLL, a word and its tag on every line, parted by spaces or tabs"
    if width < 2 or line[0] == "\t":
        raise DataError(f"{path.name}, row {number}: found {line.rstrip()!r:.60}; {expected}")
    if len(cells) != width:
        raise DataError(
            f"{path.name}, row {number}: found {len(cells)} columns, {line.rstrip()!r:.60}; the lines before "
            f"have {width}: {expected}, and an empty line between sentences"
        )
