"""Links between the documents lead somewhere: the file is there, and the heading is in it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.architecture.sources import ROOT, name_of, repository_files

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^()\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
PAGES = [path for path in repository_files() if path.suffix == ".md"]


def links_of(path: Path) -> list[str]:
    """Link targets outside code."""
    return LINK.findall(re.sub(r"`[^`]*`", "", FENCED.sub("", path.read_text())))


def anchor(heading: str) -> str:
    """The name under which a heading can be linked to, as GitHub makes it."""
    words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return words.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = [link for link in links_of(page) if not _leads_somewhere(page, link)]
    assert broken == []


def _leads_somewhere(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return link.startswith(("https://", "mailto:")) or "127.0.0.1" in link
    name, _, fragment = link.partition("#")
    target = (page.parent / unquote(name)).resolve() if name else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not fragment or fragment in {anchor(heading) for heading in HEADING.findall(target.read_text())}


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](nowhere.md) `[b](code.md)` [c](https://example.org)\n```\n[d](fenced.md)\n```\n")
    assert links_of(page) == ["nowhere.md", "https://example.org"]
    assert not _leads_somewhere(page, "nowhere.md")
    assert not _leads_somewhere(README, "#no-such-heading")
    assert _leads_somewhere(README, "#two-commands")


README = ROOT / "README.md"


def test_the_readme_leads_to_every_page_of_the_documentation() -> None:
    """Directly, or through a page that it leads to."""
    reached, open_pages = set(), [README]
    while open_pages:
        page = open_pages.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        names = [link.partition("#")[0] for link in links_of(page) if not re.match(r"[a-z]+:", link)]
        for target in [(page.parent / name).resolve() for name in names if name]:
            open_pages += sorted(target.glob("*.md")) if target.is_dir() else [target]
    pages = {path.resolve() for path in PAGES if path.is_relative_to(ROOT / "docs")}
    assert {name_of(path) for path in pages - reached} == set()
