"""Tables and JSON on stdout. Knows how things look, not what they mean."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from trunkline.cli.streams import is_unicode

MAX_LABELS = 8
PIPED_COLUMNS = 200  # a pipe has no width: wide enough that nothing of a row is folded


def print_json(value: object) -> None:
    """`value` (plain data or dataclasses) as indented JSON."""
    print_line(to_json(value, indent=2))


def to_json(value: object, indent: int | None = None) -> str:
    """`value` (plain data or dataclasses) as JSON that standard output can hold."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=not is_unicode(sys.stdout))


def print_line(text: str) -> None:
    """On stdout, at once, in its own encoding: typer would write UTF-8 where that is ASCII."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def plain(value: object) -> Any:
    """`value` with every dataclass turned into a dict."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Rows under column names; a name that ends in ">" is aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        right = name.endswith(">")
        table.add_column(
            name.rstrip(">"), justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS).print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Name and value pairs, one a line."""
    listed = [(name, cell(value)) for name, value in facts]
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        print_line(f"{name:<{width}}  {value}")


def cell(value: object) -> str:
    """How one value is written in a table."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "-"
    return str(value)


def entities_shown(entities: Iterable[tuple[str, str]]) -> str:
    """Labels with their texts, in the order of the text."""
    return ", ".join(f"{label}: {shorten(text, 40)}" for label, text in entities) or "no entity"


def labels_of(labels: Sequence[str]) -> list[str]:
    """The first labels, and how many there are; a task without any answers with any text, or embeds."""
    if len(labels) > MAX_LABELS:
        return [*labels[:MAX_LABELS], f"… ({len(labels)})"]
    return [*labels] or ["none: any text, or an embedding"]


def size(num_bytes: int) -> str:
    """Bytes as a person reads them, in powers of 1,000."""
    if num_bytes < 1_000:
        return f"{num_bytes} B"
    if num_bytes < 1_000_000:
        return f"{num_bytes / 1_000:.1f} kB"
    return f"{num_bytes / 1_000_000:.1f} MB"


def shorten(text: str, limit: int = 60) -> str:
    """At most `limit` characters, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def note(message: str) -> None:
    """A sentence for the person, on stderr, so that stdout stays data."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
