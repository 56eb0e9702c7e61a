"""The code blocks of a Markdown file: where they stand, their language, their commands with their output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its first line of code."""

    path: Path
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A line after "$ ", and the lines below it: what it printed when the document was written."""

    text: str
    output: tuple[str, ...]


def blocks_of(path: Path) -> list[Block]:
    """All blocks of a file, in order."""
    text = path.read_text()
    return [
        Block(path, text.count("\n", 0, match.start(2)) + 1, match[1], match[2])
        for match in FENCE.finditer(text)
    ]


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a `console` block."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines()
        yield Command(first, tuple(line for line in rest if line.strip()))
