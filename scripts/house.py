"""How much code there is and how each package is built: files, lines, imports, floors, circles.

    python scripts/house.py [--root DIR] [--against OLDER] [--check]

Counted are the Python files outside `tests/` that git tracks or could (without git: all), by top folder. A
module imports what its text names, in functions, too: `from a import b` is a.b if that is a module, else a,
whose `__init__` answers for what it passes on; that a.b runs a/__init__.py is not counted. A room ("r.") is a
subpackage or a module right below the package, its `__init__` among them. Imports are pairs. Floors are the
modules of the longest chain, all of a circle among them. Imports below `if TYPE_CHECKING:` count for the last
column alone: circles that need them. `--check` ends with 1 for other circles, training above 7 r.floors.
"""

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from operator import sub
from pathlib import Path
from typing import NamedTuple

COLUMNS = ("files", "lines", "imports", "floors", "rooms", "r.imports", "r.floors", "circles", "typed only")
Graph = dict[str, set[str]]
House = dict[str, list["Module"]]


class Module(NamedTuple):
    """A file by its dotted name; `plain` and `typed` are the dotted names that it imports."""

    name: str
    num_lines: int
    plain: set[str]
    typed: set[str]


def read_house(root: Path) -> House:
    """The modules of each package."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    packages: House = {}
    for name in sorted(listed or (path.relative_to(root).as_posix() for path in root.rglob("*.py"))):
        if (root / name).is_file() and not name.startswith(("tests/", "shared/", ".")):
            packages.setdefault(name.split("/")[0], []).append(_read(root, Path(name)))
    return packages


def _read(root: Path, path: Path) -> Module:
    text = (root / path).read_text(encoding="utf-8")
    *package, name = path.with_suffix("").parts
    nodes = set(ast.walk(ast.parse(text)))
    blocks = (node for node in nodes if isinstance(node, ast.If))
    typed = {n for block in blocks if "TYPE_CHECKING" in ast.unparse(block.test) for n in ast.walk(block)}
    dotted = ".".join(package if name == "__init__" else [*package, name])
    plain = set(_imported(nodes - typed, package))
    return Module(dotted, len(text.splitlines()), plain, set(_imported(typed, package)))


def _imported(nodes: Iterable[ast.AST], package: list[str]) -> Iterator[str]:
    """What import statements in a module of `package` name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            yield from (".".join(filter(None, [*base, node.module, alias.name])) for alias in node.names)


def graph_of(modules: list[Module], *, rooms: bool, typed: bool = False) -> Graph:
    """Who imports whom inside a package."""
    place = {m.name: ".".join(m.name.split(".")[:2]) if rooms else m.name for m in modules}
    graph: Graph = {name: set() for name in place.values()}
    for module in modules:
        here = place[module.name]
        named = module.plain | (module.typed if typed else set())
        graph[here] |= {place.get(n) or place.get(n.rpartition(".")[0]) or here for n in named} - {here}
    return graph


def groups_of(graph: Graph) -> dict[str, frozenset[str]]:
    """By name, those that it reaches and that reach it, itself among them; two or more are a circle."""
    reached = {name: targets | {name} for name, targets in graph.items()}
    for between, targets in product(graph, reached.values()):
        if between in targets:
            targets.update(reached[between])
    return {a: frozenset(b for b in reached[a] if a in reached[b]) for a in graph}


def circles_of(modules: list[Module], *, typed: bool = False) -> set[frozenset[str]]:
    """Modules, and rooms, that import each other."""
    files, rooms = (groups_of(graph_of(modules, rooms=rooms, typed=typed)) for rooms in (False, True))
    return {group for group in [*files.values(), *rooms.values()] if len(group) > 1}


def shape_of(graph: Graph) -> tuple[int, int]:
    """Its imports, and its floors."""
    groups = groups_of(graph)

    @cache
    def height(group: frozenset[str]) -> int:
        below = {groups[target] for name in group for target in graph[name]} - {group}
        return len(group) + max(map(height, below), default=0)

    return sum(map(len, graph.values())), max(map(height, groups.values()))


def measure(house: House) -> dict[str, tuple[int, ...]]:
    """The columns of each package; files and lines of all."""
    table: dict[str, tuple[int, ...]] = {}
    for name, modules in house.items():
        files, rooms = (graph_of(modules, rooms=rooms) for rooms in (False, True))
        lines, circles = sum(module.num_lines for module in modules), circles_of(modules)
        typed = len(circles_of(modules, typed=True) - circles)
        table[name] = (len(files), lines, *shape_of(files), len(rooms), *shape_of(rooms), len(circles), typed)
    return table | {"total": tuple(map(sum, zip(*table.values(), strict=True)))[:2]}


def problems_of(house: House) -> list[str]:
    """Circles of every package, and too many floors of training."""
    found = [f"a circle: {', '.join(sorted(c))}" for modules in house.values() for c in circles_of(modules)]
    _, floors = shape_of(graph_of(house["training"], rooms=True))
    return found + [f"training: rooms on {floors} floors, allowed: 7"] * (floors > 7)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--against", type=Path)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    house, none = read_house(asked.root), (0,) * len(COLUMNS)
    tables = {"package": (after := measure(house))}
    if asked.against:
        before = measure(read_house(asked.against))
        change = {n: tuple(map(sub, after.get(n, none), before.get(n, none))) for n in before | after}
        tables = {"before": before, "after": after, "difference": change}
    for title, table in tables.items():
        print(f"\n{title:14}" + "".join(f"{column:>12}" for column in COLUMNS))
        for name, row in table.items():
            sign = "+" if title == "difference" else ""
            print(f"{name:14}" + "".join(f"{value:>{sign}12}" for value in row))
    print("", *(problems := problems_of(house)), sep="\n")
    return int(asked.check and bool(problems))


if __name__ == "__main__":
    sys.exit(main())
