"""The law of words: which pieces of a text are labelled, and the token that each is read at.

One law for training and serving, whatever the data looked like: it sees the text alone. A piece is a run of
letters, marks, digits and underscores, or one other character that is no space and no control character; in
scripts that are written without spaces (Chinese, Japanese, Thai, ...) it is one character with its marks.
Pieces that the tokenizer covers with one token are one word, as nothing could tell them apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")
_ALONE = re.compile(rf"[{_UNSPACED}]")


class Word(NamedTuple):
    """A word: the place of its first token among the ids, and where it stands in the text (characters)."""

    token: int
    start: int
    end: int


def pieces_of(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each piece, before any tokenizer has seen it."""
    start = end = 0
    grows = False  # whether letters that follow at once belong to the piece
    for found in _PIECE.finditer(text):
        first = text[found.start()]
        kind = unicodedata.category(first)[0]
        if kind == "C":  # control characters, joiners, what has no meaning
            continue
        letters = first.isalnum() or first == "_" or kind == "M"
        joins = found.start() == end > start and (
            kind == "M" or (grows and letters and not _ALONE.match(first))
        )
        if joins:
            end = found.end()
            continue
        if end > start:
            yield start, end
        start, end = found.span()
        grows = letters and not _ALONE.match(first)
    if end > start:
        yield start, end


def words_of(text: str, ends: Sequence[int]) -> tuple[Word, ...]:
    """The words of a text whose tokens end at these characters; `token` counts its own tokens from 0.

    A word is read at the first token that ends behind its start. What no token is left for has no word.
    """
    words: list[Word] = []
    token = 0
    for start, end in pieces_of(text):
        while token < len(ends) and ends[token] <= start:
            token += 1
        if token == len(ends):
            break
        if words and words[-1].token == token:
            words[-1] = words[-1]._replace(end=end)
        else:
            words.append(Word(token, start, end))
    return tuple(words)
