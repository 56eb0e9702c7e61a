"""The law of words: pieces of a text, the tokens that they are read at, and what is one word."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling import TextItem
from modeling.words import Word, pieces_of, words_of
from tests.tiny import minilm


def pieces(text: str) -> list[str]:
    return [text[start:end] for start, end in pieces_of(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("John's in New-York.", ["John", "'", "s", "in", "New", "-", "York", "."]),
        ("U.S. $3,50 a_b", ["U", ".", "S", ".", "$", "3", ",", "50", "a_b"]),
        ("na\u00efve cafe\u0301!", ["na\u00efve", "cafe\u0301", "!"]),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902",
            ["\u0939\u093f\u0928\u094d\u0926\u0940", "\u092e\u0947\u0902"],
        ),
        ("\u5317\u4eac Tokyo\u6771", ["\u5317", "\u4eac", "Tokyo", "\u6771"]),
        ("\u0e01\u0e23\u0e38\u0e07", ["\u0e01", "\u0e23\u0e38", "\u0e07"]),
        ("a\u200bb \u00ad \x07", ["a", "b"]),
        ("\U0001f600\ufe0f!", ["\U0001f600\ufe0f", "!"]),
        ("", []),
    ],
)
def test_pieces(text: str, wanted: list[str]) -> None:
    assert pieces(text) == wanted


@given(st.text())
def test_pieces_are_in_order_and_leave_out_only_spaces_and_control(text: str) -> None:
    places = list(pieces_of(text))
    assert places == sorted(places)
    covered = {place for start, end in places for place in range(start, end)}
    assert len(covered) == sum(end - start for start, end in places)
    assert all(
        text[place].isspace() or not text[place].isprintable() for place in set(range(len(text))) - covered
    )


def test_what_one_token_covers_is_one_word() -> None:
    """Tokens "ab", " .", " c" and "a.", "b"; what no token is left for has no word."""
    assert words_of("ab . c d", [1, 4, 6]) == (Word(0, 0, 2), Word(1, 3, 4), Word(2, 5, 6))
    assert words_of("a.b", [2, 3]) == (Word(0, 0, 2), Word(1, 2, 3))


@settings(deadline=None)
@given(
    st.lists(
        st.text(alphabet="abc XY.,-'\u00e9\u4eac\u0939\u093f\u200b", min_size=0, max_size=20),
        min_size=1,
        max_size=4,
    )
)
def test_every_word_is_read_at_its_own_first_token(texts: list[str]) -> None:
    """Against the tokenizer's own offsets, one text at a time; and what is cut has no word."""
    text = minilm().text
    for one, row in zip(texts, text.encode(texts, words=True), strict=True):
        offsets = text._tokenizer.encode(one, add_special_tokens=False).offsets
        assert len({word.token for word in row.words}) == len(row.words)
        for word in row.words:
            start, end = offsets[word.token - 1]  # behind [CLS]
            assert start < word.end
            assert end > word.start
        (cut,) = text.encode([one], 8, words=True)
        assert cut.words == tuple(word for word in row.words if word.token < 7)


def test_ids_are_the_same_with_words_and_without() -> None:
    texts: list[TextItem] = ["Na\u00efve caf\u00e9s, don't!", ("a b", "c"), "x " * 300, ""]
    plain, marked = (minilm().text.encode(texts, 40, words=words) for words in (False, True))
    assert [row.ids for row in plain] == [row.ids for row in marked]
    assert [bool(row.words) for row in marked] == [True, False, True, False]
    assert not any(row.words for row in plain)
