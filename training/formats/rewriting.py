"""Edits of raw text that single formats need: markup, highlights, marked words, spaced punctuation."""

import re
import unicodedata

_BOLD = re.compile(r"</?b>")
_HIGHLIGHT_AFTER_STOP = re.compile(r"([.?!\"'])\n@highlight\n")


def without_markup(text: str) -> str:
    """MultiRC's HTML: a line break becomes a space, bold marks go."""
    return _BOLD.sub("", text.replace("<br>", " "))


def without_highlights(text: str) -> str:
    """ReCoRD's bullet points become sentences of the passage."""
    return _HIGHLIGHT_AFTER_STOP.sub(r"\1 ", text).replace("\n@highlight\n", ". ")


def mark_words(text: str, first: tuple[str, int], second: tuple[str, int]) -> str:
    """WSC: `first` stands between asterisks, `second` between hashes; each is (words, index of the first).

    Words are counted as pieces between single white space, in the text as it came.
    """
    marked = _mark(text, *first, "*")
    words, index = second
    moved = index + 2 * (first[1] < index)  # the two asterisks are words now
    return _mark(marked, words, moved, "#")


def _mark(text: str, words: str, index: int, mark: str) -> str:
    pattern = rf"^((?:\S+\s){{{index}}})({re.escape(words)})"
    return re.sub(pattern, lambda found: f"{found[1]}{mark} {found[2]} {mark}", text, count=1)


def spaced_punctuation(text: str) -> str:
    """SQuAD: spaces around all but letters, numbers, their accents and underscores; then single spaces."""
    spaced = "".join(c if _belongs_to_a_word(c) or c.isspace() else f" {c} " for c in text)
    return re.sub(r"\s+", " ", spaced)


def _belongs_to_a_word(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LNM"
