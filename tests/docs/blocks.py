"""The code blocks of a Markdown file: where they stand, their language, their commands with their output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PRINTS = "<!-- prints -->\n"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its first line of code, `is_output` whether PRINTS is before it."""

    path: Path
    line: int
    language: str
    text: str
    is_output: bool


@dataclass(frozen=True)
class Command:
    """A line after "$ ", and the lines below it: what it printed when the document was written."""

    text: str
    output: tuple[str, ...]


def blocks_of(path: Path) -> list[Block]:
    """All blocks of a file, in order."""
    text = path.read_text()
    return [
        Block(
            path=path,
            line=text.count("\n", 0, match.start(2)) + 1,
            language=match[1],
            text=match[2],
            is_output=text[: match.start()].endswith(PRINTS),
        )
        for match in FENCE.finditer(text)
    ]


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a `console` block."""
    return commands_of_text(block.text)


def commands_of_text(text: str) -> Iterator[Command]:
    """The commands in the text of such a block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines()
        yield Command(first, tuple(line for line in rest if line.strip()))
