"""Runs the commands and programs of README.md at full length and writes what they print below them.

    python scripts/renew_examples.py          minutes: it trains the tasks of the tour

A command is a line after "$ " in a `console` block; a program is a `python` block, its output stands in the
`text` block after the comment `<!-- prints -->`. The tests run the same, trained shorter, and compare forms.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a script, Python looks for modules beside this file only

from tests.docs.blocks import FENCE, PRINTS, commands_of_text  # noqa: E402  (after the path is set)
from tests.docs.tour import NOT_RUN, Tour  # noqa: E402


def renewed(text: str, tour: Tour) -> str:
    """The document with every output as it is now."""
    printed = ""

    def renew(match: re.Match[str]) -> str:
        nonlocal printed
        language, body = match[1], match[2]
        if language == "console":
            body = console(body, tour)
        elif language == "python":
            printed = tour.run_python(body)
        elif text[: match.start()].endswith(PRINTS):
            body = tidy(printed)
        return f"```{language}\n{body}```"

    return FENCE.sub(renew, text)


def console(body: str, tour: Tour) -> str:
    """A block's commands, each followed by what it prints; those that are not run keep what is there."""
    parts = []
    for command in commands_of_text(body):
        print(f"$ {command.text}", flush=True)
        output = "\n".join(command.output) + "\n" if command.output else ""
        if not command.text.startswith(NOT_RUN):
            output = tidy(tour.run(command.text))
            print(output, flush=True)
        parts.append(f"$ {command.text}\n{output}")
    return "".join(part if part.count("\n") == 1 else f"{part}\n" for part in parts[:-1]) + parts[-1]


def tidy(output: str) -> str:
    """Without empty lines at both ends and blanks at the ends of lines."""
    lines = [line.rstrip() for line in output.splitlines()]
    kept = "\n".join(lines).strip("\n")
    return f"{kept}\n" if kept else ""


def main() -> int:
    """Exit status: 0 when everything ran."""
    path = ROOT / "README.md"
    with tempfile.TemporaryDirectory() as folder, Tour(Path(folder), ROOT, quick=False) as tour:
        new = renewed(path.read_text(), tour)
    path.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
