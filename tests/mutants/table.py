"""The mutations, read from the text files beside this one: what is changed, and the tests that must notice.

    == adapters_store/names.py                          the file, until the next such line
    >> tests/unit/adapters_store/test_names.py          arguments of pytest, until the next such line
    # numbers as aliases                                a name
    - or name.isdigit():                                the old text, which stands once in the file
    + or False:                                         the new text

Several lines with the same sign are one text of several lines. When the code has moved on, `make test` names
the mutation: make the same fault in the new code, and drop it only where it cannot be made any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Mutation:
    """`old` stands exactly once in `file`; with `new` instead, `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def read_table(text: str) -> list[Mutation]:
    """The mutations of one text file."""
    found: list[Mutation] = []
    file, name = "", ""
    tests: tuple[str, ...] = ()
    old: list[str] = []
    new: list[str] = []

    def close() -> None:
        if name:
            stem = Path(file).stem
            found.append(Mutation(f"{stem}: {name}", file, "\n".join(old), "\n".join(new), tests))
        old.clear()
        new.clear()

    for line in text.splitlines():
        sign, rest = line[:2].rstrip(), line[2:].removeprefix(" ") if line[:1] in "=>" else line[2:]
        if sign in ("-", "+"):
            (old if sign == "-" else new).append(rest)
            continue
        close()
        name = rest if sign == "#" else ""
        file = rest if sign == "==" else file
        tests = tuple(rest.split()) if sign == ">>" else tests
    close()
    return found


MUTATIONS = [one for path in sorted(FOLDER.glob("*.txt")) for one in read_table(path.read_text("utf-8"))]
