"""A page of sections as one HTML file: no other file, no other site, nothing of a row that acts.

Knows how a page looks and not what it is about. The template escapes whatever it is given; a policy in the
page's head forbids every request and every script but its own, should something slip through all the same.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from training.errors import ConfigError
from training.report.shown import shown


@dataclass(frozen=True)
class Column:
    """A name; `right` for numbers, `text` for texts of rows."""

    name: str
    right: bool = False
    text: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns; `search` puts a field above, `lead` the first row in bold."""

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[object]]
    search: bool = False
    lead: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture with what is to be seen on it."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with, in this order: sentences, a list of points, pictures, tables."""

    title: str
    words: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Page:
    """What a page says."""

    title: str
    words: tuple[str, ...] = ()
    sections: list[Section] = field(default_factory=list)


def columns(*names: str) -> tuple[Column, ...]:
    """By name; one that ends in ">" is of numbers, one that ends in "~" of texts."""
    return tuple(Column(name.rstrip(">~"), name.endswith(">"), name.endswith("~")) for name in names)


def page_path(report: str, name: str) -> Path:
    """Where a page goes: a path that ends in .html, or `<name>.html` in a folder."""
    path = Path(report)
    return path if path.suffix.lower() == ".html" and not path.is_dir() else path / f"{name}.html"


def check_place(option: str, path: Path) -> None:
    """Find out before the work whether a file can be written after it; its folder is made.

    Raises:
        ConfigError: `path` is a folder, or its folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"{option} is {str(path)!r}, whose folder cannot be made ({error.strerror})"
        raise ConfigError(f"{found}; choose another") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{option} is {str(path)!r}, not a file that can be written; choose another")


def write_page(path: Path, page: Page) -> Path:
    """Render `page` into `path`; returns it."""
    path.write_text(rendered(page), encoding="utf-8")
    return path


def rendered(page: Page) -> str:
    """The whole file as text that UTF-8 can hold."""
    from jinja2 import Environment, StrictUndefined  # only a report needs it

    here = files("training.report")
    environment = Environment(
        autoescape=True, finalize=shown, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(here.joinpath("page.html").read_text(encoding="utf-8"))
    script = here.joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = Markup(script)  # noqa: S704 - the file beside this one, which holds nothing of a row
    return template.render(page=page, script=own, script_hash=f"sha256-{digest}")
