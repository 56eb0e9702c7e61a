"""Reads a page as a browser would: its elements, and the tables under each heading."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

Cells = list[list[str]]
_EMPTY = {"meta", "input", "br", "link", "img", "rect", "line", "circle", "polyline"}


@dataclass
class Read(HTMLParser):
    """`tables` are cells by heading; `tags` every element with its attributes; `open` must end empty."""

    tables: dict[str, Cells] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    heading: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "h2":
            self.heading = ""
        if tag == "tr":
            self.tables.setdefault(self.heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self.heading][-1].append("")
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "h2":
            self.heading += data
        elif {"td", "th"} & set(self.open):
            self.tables[self.heading][-1][-1] += data
        else:
            self.words[self.heading] = self.words.get(self.heading, "") + data

    def column(self, heading: str, name: str) -> list[str]:
        """The cells under a name."""
        head, *rows = self.tables[heading]
        return [row[head.index(name)] for row in rows]


def read_page(html: str) -> Read:
    """A page whose elements are all closed."""
    page = Read()
    page.feed(html)
    page.close()
    assert page.open == []
    return page
