"""The rules of size and documentation that no linter here checks: a file is read in one sitting."""

import ast
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, PROGRAMS, name_of, python_files

MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 400
BANNED_MODULE_WORDS = {
    "helper",
    "helpers",
    "util",
    "utils",
    "manager",
    "handler",
    "wrapper",
    "common",
    "misc",
}

CODE = python_files([*PACKAGES, *PROGRAMS])
PACKAGE_CODE = python_files(PACKAGES)


def _long_functions(source: str, limit: int) -> list[tuple[str, int]]:
    """Functions whose code, without decorators and docstring, spans more than `limit` lines; their length."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
            lines = (node.end_lineno or node.lineno) - body[0].lineno + 1 + (body[0].lineno > node.lineno)
            if lines > limit:
                found.append((node.name, lines))
    return found


def test_the_code_is_found() -> None:
    assert {name_of(path).split("/")[0] for path in PACKAGE_CODE} == set(PACKAGES)


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_file_and_its_functions_stay_short(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES, f"{name_of(path)} has more than {MAX_FILE_LINES} lines"
    assert _long_functions(source, MAX_FUNCTION_LINES) == []


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_file_says_what_it_knows(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, f"{name_of(path)} has no module docstring: say in it what the file knows"
    assert docstring.split("\n")[0].rstrip(), "the docstring's first line is empty"


@pytest.mark.parametrize("path", PACKAGE_CODE, ids=name_of)
def test_a_module_is_named_for_what_it_is(path: Path) -> None:
    assert BANNED_MODULE_WORDS.isdisjoint(path.stem.split("_")), (
        f"{name_of(path)}: a name that collects everything"
    )


def test_a_function_of_51_lines_is_found() -> None:
    body = "\n".join(f"    x = {number}" for number in range(50))
    assert _long_functions(f'def fits():\n    """Doc."""\n{body[: body.rindex(chr(10))]}\n', 50) == []
    assert _long_functions(f"def long():\n{body}\n", 50) == [("long", 51)]
