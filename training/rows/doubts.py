"""What a person may want to correct in a label column: spellings of one label, labels that look alike, slips.

Canonical texts with their first rows in, sentences out.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal

from training.rows.canonical import Seen

_SHOWN = 10
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_VARIANTS = [chr(code) for code in range(0xFE00, 0xFE10)]  # of one sign
_COMMA = re.compile(r"-?[0-9]+,[0-9]+")


def doubts_of(texts: Mapping[str, Seen]) -> list[str]:
    """One label spelled in two ways, two labels that may be meant as one, booleans, decimal commas."""
    return [*_spellings(texts), *_booleans(texts), *_near(texts), *_commas(texts), *_quotes(texts)]


def _quotes(texts: Mapping[str, Seen]) -> list[str]:
    found = [text for text in texts if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"]
    where = [f"{text} ({texts[text].where})" for text in found[:1]]
    return [
        f"the quotes of labels such as {one} are part of them; is there a space before them?" for one in where
    ]


def _booleans(texts: Mapping[str, Seen]) -> list[str]:
    spelled = [s for t in ("false", "true") if t in texts for s in texts[t].spelled if s != t]
    return [f"read as the booleans true and false: {', '.join(map(repr, spelled))}"] if spelled else []


def _commas(texts: Mapping[str, Seen]) -> list[str]:
    found = [text for text in texts if _COMMA.fullmatch(text)]
    if 2 * len(found) <= len(texts):
        return []
    return [
        f"labels such as {found[0]!r} ({texts[found[0]].where}) look like numbers with a decimal comma and "
        "are read as text; write them with a point if they are numbers"
    ]


def _spellings(texts: Mapping[str, Seen]) -> list[str]:
    return [
        f"{', '.join(map(repr, seen.spelled))} are one label, {text!r} ({seen.where})"
        for text, seen in texts.items()
        if len(seen.spelled) > 1
    ][:_SHOWN]


def _near(texts: Mapping[str, Seen]) -> list[str]:
    """Labels that a person may have meant to be one."""
    groups: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        groups[folded(text)].append(text)
    return [
        f"labels {_shown(group, texts)} differ only by "
        "case, spaces, invisible characters or zeros: they are learnt as "
        f"{len(group)} labels; correct the rows if they are one"
        for group in groups.values()
        if len(group) > 1
    ][:_SHOWN]


def _shown(group: Sequence[str], texts: Mapping[str, Seen]) -> str:
    words = [repr(text) if text.isascii() else f"{text!r}, as {text!a}," for text in sorted(group)]
    return " and ".join(
        f"{word} ({texts[text].where})" for word, text in zip(words, sorted(group), strict=True)
    )


def folded(text: str) -> str:
    """Without what an eye hardly sees: case, composition, invisible characters, spaces, leading zeros."""
    plain = unicodedata.normalize("NFKC", text)
    seen = "".join(
        c for c in plain if unicodedata.category(c) not in ("Cf", "Cc", "Zs") and c not in _VARIANTS
    )
    if _NUMBER.fullmatch(seen):
        return str(Decimal(seen).normalize())
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", unicodedata.normalize("NFKC", seen.casefold()))


def shorten_list(words: Sequence[str], most: int = _SHOWN) -> str:
    """The first ten, and how many more there are."""
    return ", ".join(words[:most]) + (f", ... {len(words) - most} more" if len(words) > most else "")
