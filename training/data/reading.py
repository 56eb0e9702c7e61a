"""How the rows of one data set are read: which item a row is, and what the adapter file calls its parts."""

from collections.abc import Iterator
from dataclasses import dataclass

from training.data.card import Card
from training.errors import ConfigError, DataError
from training.formats import Formatter, choose_formatter
from training.rows.items import ReadItem, Row, formatted, plain_texts, with_choices
from training.rows.tables import Table
from training.settings.checks import TEXT_TO_TEXT
from training.settings.config import TrainConfig
from training.settings.defaults import defaults_for

SOURCE_FIELDS = ("source",)
CHOICE_FIELDS = ("text", "choices")


@dataclass(frozen=True)
class Reading:
    """`item` reads a row of `read_fields`; `fields` name what the item has, as the adapter file lists them.

    A text-to-text task is served with finished sources, so it has one field, `source`; its `formatter` makes
    sources out of rows.
    """

    item: ReadItem
    fields: tuple[str, ...]
    read_fields: tuple[str, ...]
    label_field: str
    formatter: Formatter | None = None

    def rows(self, table: Table) -> Iterator[Row]:
        """The fields that `item` reads, row by row. Raises DataError for a field that is not there."""
        missing = [field for field in self.read_fields if field not in table.columns]
        if missing:
            shown = ", ".join(sorted(table.columns)) or "(none)"
            raise DataError(
                f"{table.source}: no field {', '.join(map(repr, missing))} among {shown}; "
                "choose others with --text-fields"
            )
        columns = [table.values(field) for field in self.read_fields]
        return (dict(zip(self.read_fields, row, strict=True)) for row in zip(*columns, strict=True))


def reading_of(card: Card, formatter: Formatter | None) -> Reading:
    """How to read the rows that `card` describes; with a `formatter` for text-to-text."""
    texts, label = card.text_fields, card.label_field
    if formatter is not None:
        return Reading(formatted(formatter), SOURCE_FIELDS, formatter.fields, label, formatter)
    if card.task.lists_choices:
        item = with_choices(texts, card.choice_fields)
        return Reading(item, CHOICE_FIELDS, (*texts, *card.choice_fields), label)
    return Reading(plain_texts(texts), texts, texts, label)


def formatter_of(card: Card, config: TrainConfig) -> Formatter | None:
    """The formatter of a text-to-text run; None for a head. The prefix is the paper's unless it was given.

    Raises:
        ConfigError: no such format, or the rows lack its fields.
    """
    if config.form != TEXT_TO_TEXT:
        return None
    published = defaults_for(config.method).published
    prefix = config.task_prefix
    try:
        return choose_formatter(
            config.format,
            card.name,
            card.text_fields,
            card.row_fields,
            prefix=published is not None and published.task_prefix if prefix is None else prefix,
            targets=config.targets,
            official_code=config.official_code,
        )
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from None
