"""Text of strangers on a page: nothing in it acts, and nothing in it hides.

What a browser would not show, or would turn around (control characters, overrides of the direction, lone
surrogates), is written as its number; what means something in HTML is escaped.
"""

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

MOST_CHARACTERS = 2_000
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)
"""Not the joiners of scripts and emoji (U+200C, U+200D), and not tabs and line feeds."""


def visible(text: str) -> str:
    """The text with its odd characters as numbers: U+202E between angle brackets."""
    return _ODD.sub(lambda odd: f"⟨U+{ord(odd[0]):04X}⟩", text.replace("\r\n", "\n"))


def shown(value: object) -> Markup:
    """How any value stands on the page; markup of our own as it is."""
    if isinstance(value, Markup):
        return value
    return escape(visible(words(value)))


def words(value: object) -> str:
    """A value as a person writes it: four decimals, lists with commas, a mapping as pairs."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {words(item)}" for name, item in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value)) or "none"
    return cut(str(value))


def cut(text: str) -> str:
    """At most so many characters; how many there were is told."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}… (the first {MOST_CHARACTERS:,} of {len(text):,} characters)"
