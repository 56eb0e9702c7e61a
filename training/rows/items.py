"""What a model is asked about one row: a text, a pair, or a text with choices; and how rows become that.

Knows fields and formats; no labels, no tokens. A row that cannot be read raises BadFieldError with its place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters_store.manifest import rows_of
from training.formats import Formatter
from training.rows.printed import listed

Row = Mapping[str, Any]
TextItem = str | tuple[str, str]
MIN_CHOICES = 2
WHOLE = "write it whole, or U+FFFD in its place, or remove the row"
"""What to do about half of a character, such as an emoji."""
QUESTIONS: Mapping[str, str] = {
    "cause": "What was the cause?",
    "effect": "What happened as a result?",
}
"""What COPA's field `question` stands for; the sentence follows the premise."""


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A text with K >= 2 choices: the model scores the K pairs (text, choice)."""

    text: str
    choices: tuple[str, ...]


Item = TextItem | ChoiceItem
ReadItem = Callable[[Row], Item]
"""Raises BadFieldError."""


class BadFieldError(Exception):
    """A field of a row cannot be used: which one, what was found, what to do."""

    def __init__(self, field: str, found: str, remedy: str) -> None:
        super().__init__(field)
        self.field, self.found, self.remedy = field, found, remedy


def texts_of(item: Item) -> list[TextItem]:
    """What the backbone reads for an item."""
    if isinstance(item, ChoiceItem):
        return rows_of(item.text, None, item.choices)
    return [item]


def parts_of(item: Item) -> tuple[str, ...]:
    if isinstance(item, ChoiceItem):
        return (item.text, *item.choices)
    return (item,) if isinstance(item, str) else item


def plain_texts(fields: Sequence[str]) -> ReadItem:
    """Reads one or two fields as they are."""

    def read(row: Row) -> Item:
        texts = [_text(row, field) for field in fields]
        return texts[0] if len(texts) == 1 else (texts[0], texts[1])

    return read


def joined_words(fields: Sequence[str]) -> ReadItem:
    """Reads a field as it is, or, of a list of words, these with single spaces between."""

    def read(row: Row) -> Item:
        found = present(row, fields[0], "--text-fields")
        is_text = isinstance(found, str) and not found.lstrip().startswith(("['", '["'))
        words = None if is_text else listed(found)
        return _string(fields[0], found if words is None else text_of(words))

    return read


def text_of(words: Sequence[Any]) -> Any:
    """The text of words that came apart; what are none is left for whoever reads texts to refuse."""
    return " ".join(words) if all(isinstance(word, str) for word in words) else words


def with_choices(fields: Sequence[str], choice_fields: Sequence[str]) -> ReadItem:
    """Reads the text out of `fields` (joined by spaces) and the choices out of theirs, or out of one list.

    COPA's `question` ("cause" or "effect") becomes a sentence after the premise, see QUESTIONS.
    """

    def read(row: Row) -> Item:
        text = " ".join(_question(row, field) for field in fields)
        choices = _choices(row, choice_fields)
        if len(set(choices)) < len(choices):
            raise BadFieldError(
                ", ".join(choice_fields), "the same choice twice", "a server refuses that: remove the row"
            )
        return ChoiceItem(text, choices)

    return read


def formatted(formatter: Formatter) -> ReadItem:
    """Reads the source of a text-to-text task."""

    def read(row: Row) -> Item:
        for field in formatter.fields:
            if present(row, field, "--text-fields") is None:
                raise BadFieldError(field, "null", "the format needs it: fill it in or remove the row")
        try:
            return formatter.source(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadFieldError(
                ", ".join(formatter.fields), f"{error!r}"[:120], f"format {formatter.name} cannot read it"
            ) from None

    return read


def present(row: Row, field: str, flag: str) -> Any:
    """The value of a field. Raises BadFieldError, naming the `flag` that would choose another."""
    if field not in row:
        raise BadFieldError(
            field, f"only {', '.join(sorted(map(str, row))) or 'no fields'}", f"add it, or set {flag}"
        )
    return row[field]


def _text(row: Row, field: str, flag: str = "--text-fields") -> str:
    return _string(field, present(row, field, flag))


def _string(field: str, value: Any) -> str:
    if value is None:
        raise BadFieldError(
            field, "null", "fill it in, remove the row, or choose other fields (--text-fields)"
        )
    if not isinstance(value, str):
        raise BadFieldError(
            field,
            f"{value!r} ({type(value).__name__})"[:120],
            "a text is a string: write it as text (in Excel, format the column as Text)",
        )
    return value


def check_characters(item: Item, fields: Sequence[str]) -> None:
    """Raises BadFieldError for half of a character, which no tokenizer reads; it came from these `fields`."""
    for half in filter(None, map(half_character, parts_of(item))):
        raise BadFieldError(", ".join(fields), half, WHOLE)


def half_character(text: str) -> str | None:
    """JSON can hold one surrogate without the other, which no tokenizer and no UTF-8 has; where it stands."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x} at character {error.start}, half of a character that was cut"
    return None


def _question(row: Row, field: str) -> str:
    text = _text(row, field)
    return QUESTIONS.get(text.strip().lower(), text) if field == "question" else text


def _choices(row: Row, fields: Sequence[str]) -> tuple[str, ...]:
    flag = "--choice-fields"
    if len(fields) > 1:
        return tuple(_text(row, field, flag) for field in fields)
    found = present(row, fields[0], flag)
    choices = listed(found)
    if choices is None or len(choices) < MIN_CHOICES:
        raise BadFieldError(
            fields[0], f"{found!r}"[:120], f"choices are a list of at least {MIN_CHOICES} texts"
        )
    return tuple(_string(fields[0], choice) for choice in choices)
