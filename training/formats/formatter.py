"""How the rows of one task become text: an official format or plain named fields, and its label strings.

A formatter is plain data, so it is kept in the adapter file and used again by `trunkline evaluate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.formats.official import CODE_SCALE, FORMATS, Row, named_fields, official_name, with_prefix
from training.formats.scale import Scale

PLAIN = "fields"
AUTO = "auto"
DIGITS, WORDS = "digits", "words"


@dataclass(frozen=True)
class Formatter:
    """`name` is an official task or `fields`; `prefix` is put in front; `fields` are read from the row.

    `official_code` repeats the slips of the published code (see `official.py`); `targets` says whether
    classes are written as digits or as their names.
    """

    name: str
    fields: tuple[str, ...]
    prefix: str = ""
    targets: str = DIGITS
    official_code: bool = False

    def source(self, row: Row) -> str:
        """The text that the encoder reads."""
        if self.name == PLAIN:
            return with_prefix(named_fields(row, {field: field for field in self.fields}), self.prefix)
        return with_prefix(FORMATS[self.name].source(row, self.official_code), self.prefix)

    def form(self) -> str:
        """A source with the names of the fields in braces, for whoever has to write one."""
        row: dict[str, Any] = {field: f"{{{field}}}" for field in self.fields}
        if "span1_index" in row:  # WSC marks two words of its text, given by their places
            row |= {"text": "{span1_text} ... {span2_text}", "span1_index": 0, "span2_index": 2}
        return self.source(row)

    def label_strings(self, names: Sequence[str]) -> tuple[str, ...]:
        """The target string of each class."""
        return tuple(names) if self.targets == WORDS else tuple(str(index) for index in range(len(names)))

    @property
    def scale(self) -> Scale | None:
        """The classes of a regression where the task fixes them."""
        if self.name == PLAIN or FORMATS[self.name].scale is None:
            return None
        return CODE_SCALE if self.official_code else FORMATS[self.name].scale

    def to_config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "fields": list(self.fields)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Formatter":
        """Of the values that `to_config` gave. Raises KeyError or TypeError for others."""
        name, fields = str(config["name"]), tuple(map(str, config["fields"]))
        if name != PLAIN:
            FORMATS[name]  # an unknown task is found here and not at the first row
        return cls(name, fields, str(config["prefix"]), str(config["targets"]), bool(config["official_code"]))


def choose_formatter(
    wanted: str,
    data_name: str | None,
    text_fields: Sequence[str],
    row_fields: frozenset[str],
    *,
    prefix: bool,
    targets: str,
    official_code: bool,
) -> Formatter:
    """The formatter of a data set: `wanted` is an official task, `fields`, or `auto` (by the set's name).

    The prefix is the official task's name, else the data set's.

    Raises:
        KeyError: an official task that does not exist, or that needs fields which the rows lack; the
            message says which.
    """
    name = official_name(data_name, row_fields) if wanted == AUTO else wanted
    if name is None or name == PLAIN:
        shown = (data_name or "") if prefix else ""
        return Formatter(PLAIN, tuple(text_fields), shown, targets, official_code)
    if name not in FORMATS:
        raise KeyError(f"format is {name!r}; allowed: {AUTO}, {PLAIN}, {', '.join(FORMATS)}")
    missing = sorted(set(FORMATS[name].fields) - row_fields)
    if missing:
        raise KeyError(f"format {name} needs the field(s) {', '.join(missing)}; the rows have none such")
    return Formatter(name, FORMATS[name].fields, name if prefix else "", targets, official_code)
