"""The raw items of a request: which forms they have, what is wrong with one, what it costs to read.

Pure: plain JSON values in, texts or the error of a single item out. Which form a task takes is for
`wrong_form` to say; K is the number of choices of an item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters_store.manifest import MAX_CHOICES, MIN_CHOICES, rows_of

from .request import ItemError, ServingCard

if TYPE_CHECKING:
    from modeling import TextItem

CHUNK_TEXTS = 256
CHUNK_CHARS = 262_144
SHORT_CHARS = 512
SHORT_ROWS = 4

_FIELDS = ("text", "text_pair", "choices")
_ITEM_FORM = 'a string, or an object {"text": string, "text_pair": string, "choices": [string, …]}'
_CHOICES_FORM = f"a list of {MIN_CHOICES} to {MAX_CHOICES} different strings"


@dataclass(frozen=True, slots=True)
class Item:
    """A sound item: a text, or a pair, or a text with the choices it is to be completed by."""

    text: str
    pair: str | None = None
    choices: tuple[str, ...] | None = None

    @property
    def rows(self) -> list[TextItem]:
        """What the backbone reads for it."""
        return rows_of(self.text, self.pair, self.choices)

    @property
    def num_chars(self) -> int:
        return len(self.text) + len(self.pair or "") + sum(map(len, self.choices or ()))


def chunk_end(items: Sequence[object], start: int) -> int:
    """Where the chunk that begins at `start` ends: bounded in rows and in characters after the first item."""
    num_chars = num_rows = 0
    for index in range(start, len(items)):
        num_chars += num_chars_of(items[index])
        num_rows += num_rows_of(items[index])
        if (num_chars > CHUNK_CHARS or num_rows > CHUNK_TEXTS) and index > start:
            return index
    return len(items)


def num_chars_of(item: object) -> int:
    """Characters of a raw item; 0 for what is not one."""
    if isinstance(item, str):
        return len(item)
    if not isinstance(item, dict):
        return 0
    own = sum(len(value) for value in item.values() if isinstance(value, str))
    return own + sum(len(choice) for choice in _choices_of(item) if isinstance(choice, str))


def num_rows_of(item: object) -> int:
    """How many rows a raw item becomes under one task: K for an item with choices, else 1."""
    return max(1, len(_choices_of(item))) if isinstance(item, dict) else 1


def is_pair(item: object) -> bool:
    """Whether a raw item comes with a second text."""
    return isinstance(item, dict) and item.get("text_pair") is not None


def num_row_chars_of(item: object) -> int:
    """Characters of all rows of a raw item: its text stands in every one."""
    if not isinstance(item, dict):
        return num_chars_of(item)
    text = item.get("text")
    return num_chars_of(item) + (num_rows_of(item) - 1) * (len(text) if isinstance(text, str) else 0)


def _choices_of(item: dict[str, object]) -> Sequence[object]:
    """As many as may be given: more are refused, and cost nothing."""
    choices = item.get("choices")
    return choices[:MAX_CHOICES] if isinstance(choices, list) else ()


def are_short(items: Sequence[object], num_tasks: int) -> bool:
    """Whether turning them into rows costs less than handing them to a thread."""
    if len(items) * num_tasks > SHORT_ROWS or not all(map(_is_plain, items)):
        return False
    num_rows = sum(map(num_rows_of, items)) * num_tasks
    return num_rows <= SHORT_ROWS and sum(map(num_row_chars_of, items)) <= SHORT_CHARS


def _is_plain(item: object) -> bool:
    """Whether there is no more to it than its texts."""
    return not isinstance(item, dict) or len(item) <= len(_FIELDS)


def parse_item(item: object, index: int, max_text_chars: int) -> Item | ItemError:
    """The texts that a raw item holds, or why it holds none."""
    parsed = Item(item) if isinstance(item, str) else _from_object(item, index)
    if isinstance(parsed, Item) and (cut := _cut_character(parsed)):
        return _invalid(index, cut)
    if isinstance(parsed, Item) and parsed.num_chars > max_text_chars:
        num_chars = parsed.num_chars
        message = (
            f"inputs[{index}] has {num_chars} characters; allowed: {max_text_chars}, also with truncate. "
            "Send the part that matters"
        )
        return ItemError("too_long", message, index, (("chars", num_chars), ("limit", max_text_chars)))
    return parsed


def _from_object(item: object, index: int) -> Item | ItemError:
    if not isinstance(item, dict):
        return _invalid(index, f"is {_json_type(item)}; allowed: {_ITEM_FORM}")
    unknown = sorted(str(key)[:40] for key in item if key not in _FIELDS)
    if unknown:
        return _invalid(index, f"has the unknown field {unknown[0]!r}; allowed: {_ITEM_FORM}")
    first, second = item.get("text"), item.get("text_pair")
    if not isinstance(first, str):
        got = _json_type(first) if "text" in item else "missing"
        return _invalid(index, f"has a text that is {got}; allowed: {_ITEM_FORM}")
    if second is not None and not isinstance(second, str):
        return _invalid(index, f"has a text_pair that is {_json_type(second)}; allowed: a string")
    choices = item.get("choices")
    if choices is None:
        return Item(first, second)
    if second is not None:
        return _invalid(index, "has a text_pair and choices; allowed: one of the two")
    wrong = _wrong_choices(choices)
    if wrong:
        return ItemError("invalid_choices", f"inputs[{index}] {wrong}; allowed: {_CHOICES_FORM}", index)
    return Item(first, None, tuple(choices))


def lone_surrogate(text: str) -> int | None:
    """Where a text holds half of a character, which UTF-8, and so the tokenizer, cannot have."""
    if text.isascii():  # known of every string without looking at it
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _cut_character(item: Item) -> str:
    """Which text of an item holds half of a character, as the end of a sentence; nothing if none does."""
    for number, text in enumerate((item.text, item.pair or "", *(item.choices or ()))):
        place = lone_surrogate(text)
        if place is not None:
            field = ("text", "text_pair")[number] if number < 2 else f"choices[{number - 2}]"
            return (
                f"has a lone surrogate (\\u{ord(text[place]):04x}) in {field}, at character {place}: half of "
                "a character, such as an emoji, that was cut; send it whole, or U+FFFD in its place"
            )
    return ""


def _wrong_choices(choices: object) -> str:
    """What is wrong with choices, as the end of a sentence; nothing if they are sound."""
    if not isinstance(choices, list):
        return f"has choices that are {_json_type(choices)}"
    if not MIN_CHOICES <= len(choices) <= MAX_CHOICES:
        return f"has {len(choices)} choices"
    for place, choice in enumerate(choices):
        if not isinstance(choice, str):
            return f"has a choice that is {_json_type(choice)} (choices[{place}])"
    if len(set(choices)) < len(choices):
        again = next(place for place, choice in enumerate(choices) if choice in choices[:place])
        return f"has the same choice twice (choices[{choices.index(choices[again])}] and [{again}])"
    return ""


def _invalid(index: int, what: str) -> ItemError:
    return ItemError("invalid_item", f"inputs[{index}] {what}", index)


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), "a string")


def wrong_form(card: ServingCard, item: Item, index: int) -> ItemError | None:
    """Why a task does not take an item of this form; None if it does."""
    fields = card.fields
    if card.kind.choices:
        if item.choices is not None:
            return None
        form = '{"text": "…", "choices": ["…", "…"]}'
        message = f"inputs[{index}] has no choices, but this task chooses; send {form}"
        return ItemError("choices_required", message, index)
    if item.choices is not None:
        message = f"inputs[{index}] has choices, but this task is a {card.spec.kind}; leave them out"
        return ItemError("choices_not_allowed", message, index)
    if item.pair is not None and len(fields) == 1:
        message = f"inputs[{index}] has a text_pair, but this task reads one text ({fields[0]}); leave it out"
        return ItemError("text_pair_not_allowed", message, index)
    if item.pair is None and len(fields) != 1 and not card.readout.embeds:
        message = (
            f"inputs[{index}] has no text_pair, but this task reads two texts ({', '.join(fields)}); "
            'send {"text": "…", "text_pair": "…"}'
        )
        return ItemError("text_pair_required", message, index)
    return None


def too_long(num_tokens: int, limit: int, index: int) -> ItemError:
    """The error of an item with more tokens than its task takes."""
    message = (
        f"inputs[{index}] has {num_tokens} tokens; allowed: {limit}. "
        'Send a shorter text, or "truncate": true to have its end cut'
    )
    return ItemError("too_long", message, index, (("tokens", num_tokens), ("limit", limit)))
