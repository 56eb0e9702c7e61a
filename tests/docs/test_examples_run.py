"""Every code block of the README and of the client's page runs, in order, and prints what the document shows.

The test trains shorter than the reader, so numbers and labels may differ; the form of the output may not.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import Block, Command, blocks_of, commands_of
from tests.docs.tour import NOT_RUN, Tour

ROOT = Path(__file__).resolve().parents[2]
README, CLIENT, METHODS = ROOT / "README.md", ROOT / "docs" / "client.md", ROOT / "docs" / "methods.md"
PAGES = (README, CLIENT, METHODS)
SHOWN_ONLY = {"text", "json", ""}


@pytest.mark.timeout(900)  # most of a minute alone; other work may share the machine
def test_the_documents_run_from_top_to_bottom(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.fail("curl is needed to run the README")
    with Tour(tmp_path, ROOT) as tour:
        for path in PAGES:
            printed = ""
            for block in blocks_of(path):
                printed = _run(tour, block, printed)


def _run(tour: Tour, block: Block, printed: str) -> str:
    """Run one block; gives what a program printed, for the block below it that shows it."""
    where = f"{block.path.name}:{block.line}"
    if block.language == "console":
        for command in commands_of(block):
            if not command.text.startswith(NOT_RUN):
                assert form(tour.run(command.text)) == form("\n".join(command.output)), (
                    f"{where} {command.text}"
                )
    elif block.language == "python":
        return tour.run_python(block.text)
    elif block.is_output:
        assert len(printed.splitlines()) == len(block.text.splitlines()), where
    return ""


def form(output: str) -> list[str]:
    """The outline of an output: the keys of JSON, the first word of any other line; no rules of tables."""
    lines = [line.strip() for line in output.splitlines()]
    return [_outline(line) for line in lines if line.strip("─ ")]


def _outline(line: str) -> str:
    if line.startswith("{"):
        return str(_keys(json.loads(line)))
    return re.sub(r"\d+", "0", line.split(maxsplit=1)[0])


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: None if key == "scores" else _keys(item) for key, item in sorted(value.items())}
    return [_keys(item) for item in value[:1]] if isinstance(value, list) else None


@pytest.mark.parametrize("block", [block for path in PAGES for block in blocks_of(path)], ids=str)
def test_a_block_has_a_language_that_is_run_or_only_shown(block: Block) -> None:
    assert block.language in SHOWN_ONLY | {"console", "python"}
    if block.language == "console":
        assert list(commands_of(block)), "a console block begins its commands with '$ '"
    if block.language == "json":
        json.loads(block.text)


def _not_run() -> list[Command]:
    commands = [
        c for path in PAGES for b in blocks_of(path) if b.language == "console" for c in commands_of(b)
    ]
    return [command for command in commands if command.text.startswith(NOT_RUN)]


@pytest.mark.parametrize("command", _not_run(), ids=lambda command: command.text)
def test_a_command_that_is_not_run_here_exists(command: Command) -> None:
    program, *words = command.text.split()
    if program == "make":
        listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert re.search(rf"^  make {words[0]} ", listed, re.MULTILINE)
    elif program == "docker":
        services = re.findall(r"^  (\w+):$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
        named = [word for word in words if word in services]
        assert words[0] == "compose"
        assert named or words[1] == "up"
    else:
        assert command.text == "source .venv/bin/activate"
