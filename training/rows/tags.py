"""Tags of words as spans: BIO in its forms (IOB1, IOB2), BILOU, BIOES, or bare labels; which is found out.

IOB1: Ramshaw and Marcus 1995, B- only between neighbours of one label. IOB2: Tjong Kim Sang and Veenstra
1999, B- at every beginning. BILOU: Ratinov and Roth 2009, L- and U- (BIOES: E- and S-) for the last and the
only word. What no scheme can write is read as conlleval reads it, as the beginning of another span, and
counted.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.errors import DataError

OUTSIDE = "O"
_MARKED = re.compile(r"([BIOLUES])[-_](.+)", re.DOTALL)
_BEHIND = re.compile(r".+[-_][BI]", re.DOTALL)
_LAST, _ONLY = "LE", "US"


@dataclass(frozen=True)
class Scheme:
    """How tags are written; `bare`: as labels alone, of which neighbours with one label are one span."""

    name: str
    bare: bool = False
    inside_begins: bool = False  # IOB1: I- behind another label is a beginning
    closes: bool = False  # the last word of a span is marked

    def spans(self, tags: Sequence[str]) -> tuple[list[tuple[int, int, str]], list[int]]:
        """First word, last word and label of each span, and the words whose tag cannot stand there."""
        found: list[tuple[int, int, str]] = []
        odd: list[int] = []
        is_open = False  # whether the last span may go on
        for place, tag in enumerate(tags):
            if tag == OUTSIDE:
                odd += [place] * (is_open and self.closes)
                is_open = False
                continue
            mark, label = ("I", tag) if self.bare else parts_of_tag(tag)
            goes_on = is_open and mark in "I" + _LAST and found[-1][2] == label
            if goes_on:
                found[-1] = (found[-1][0], place, label)
            else:
                begins = mark in "B" + _ONLY or self.bare or (self.inside_begins and mark == "I")
                odd += [place] * (not begins or (is_open and self.closes))
                found.append((place, place, label))
            is_open = mark not in _LAST + _ONLY
        if is_open and self.closes:
            odd.append(len(tags) - 1)
        return found, odd


def parts_of_tag(tag: str) -> tuple[str, str]:
    """The mark and the label of a tag that has both."""
    found = _MARKED.fullmatch(tag)
    assert found is not None, "tags of a scheme are marked: this is a bug"
    return found[1], found[2]


def label_of(tag: str) -> str:
    """What a tag says of its word, whatever the scheme: nothing for O."""
    found = _MARKED.fullmatch(tag)
    return "" if tag == OUTSIDE else tag if found is None else found[2]


def is_tag(name: str) -> bool:
    """Whether a name is written as a tag of a word, and not as the label of a span."""
    return name == OUTSIDE or _MARKED.fullmatch(name) is not None


def scheme_of(rows: Iterable[Sequence[str]], where: str) -> Scheme:
    """The scheme that all rows of tags are written in. Raises DataError for tags of several."""
    different: dict[str, None] = {}
    lone, inside_begins = False, False  # B- with no neighbour of its label; I- with none
    for tags in rows:
        different |= dict.fromkeys(tags)
        for before, tag in zip((OUTSIDE, *tags), tags, strict=False):
            same = label_of(before) == label_of(tag)
            lone |= tag.startswith(("B-", "B_")) and not same
            inside_begins |= tag.startswith(("I-", "I_")) and not same
    different.pop(OUTSIDE, None)
    marked = [tag for tag in different if is_tag(tag)]
    bare = [tag for tag in different if not is_tag(tag)]
    if marked and bare:
        raise DataError(
            f"{where}: the tag {bare[0]!r} stands beside {marked[0]!r}; write every tag as O, B-LABEL or "
            "I-LABEL"
        )
    if bare and all(map(_BEHIND.fullmatch, bare)):
        raise DataError(f"{where}: the tag {bare[0]!r} has its mark behind; write it in front, as B-LABEL")
    if bare or not marked:
        return Scheme("bare labels", bare=True)
    return _of_marks({parts_of_tag(tag)[0] for tag in marked}, where, lone=lone, inside_begins=inside_begins)


def _of_marks(marks: set[str], where: str, *, lone: bool, inside_begins: bool) -> Scheme:
    if "O" in marks or (marks & set("LU") and marks & set("ES")):
        raise DataError(
            f"{where}: tags begin with {', '.join(sorted(marks))}; write them in one scheme: BIO, BILOU or "
            "BIOES"
        )
    if marks & set("LUES"):
        return Scheme("BILOU" if marks & set("LU") else "BIOES", closes=True)
    if inside_begins and not lone:
        return Scheme("IOB1", inside_begins=True)
    return Scheme("BIO")
