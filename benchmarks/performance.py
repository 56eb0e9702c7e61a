"""What docs/performance.md says of every benchmark of speed: its question, on what it ran, tables, pictures.

All of it comes from result files; a benchmark without one is named as not measured. A result tells how much
others worked meanwhile, or the page says that it does not.

    python -m benchmarks.performance          prints the sections
    python -m benchmarks.pictures             draws the pictures
"""

import ast
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import record, tables

Result = dict[str, Any]
Bars = dict[str, dict[str, float]]
"""Values by label and series."""
HERE = Path(__file__).parent
NAMES = (
    *("bare_backbone", "fast_path", "mixed_batch", "residency", "http_peers", "neighbour", "front"),
    *("hot_load", "fan_out", "text_to_text", "text_to_text_quality", "gpu", "gpu_training"),
)
CPU, WALL = "cpu", "wall"


def page() -> str:
    """A section for each benchmark that has results, and the names of those without."""
    found = {name: record.read(name) for name in NAMES if (HERE / f"{name}.py").exists()}
    missing = [f"`{name}`" for name, result in found.items() if not result]
    parts = [section(name, result) for name, result in found.items() if result]
    if missing:
        parts.append(f"Not measured yet: {', '.join(missing)}.\n")
    return "\n".join(parts)


def section(name: str, result: Result) -> str:
    """Heading, question, pictures, then every run with its tables."""
    lines = [f"## {name}", "", question(name), ""]
    if bars_of(name, result):
        lines += [f"![{name}](images/{name}.svg)", ""]
    for key, run in runs(result).items():
        lines += [f"### {key}", ""] if key else []
        lines += [f"{told(run)}.", ""]
        for text in SHOWN.get(name, (ratios,)):
            lines += [text(run), ""] if text(run) else []
    lines.append(f"[{name}.json](../benchmarks/results/{name}.json), by `python -m benchmarks.{name}`.")
    return "\n".join(lines) + "\n"


def question(name: str) -> str:
    """The first line of what the script says of itself."""
    about = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))) or name
    return about.split("\n\n", 1)[0].replace("\n", " ")


def runs(result: Result) -> dict[str, Result]:
    """One of no name, or those that a file keeps apart."""
    return {"": result} if "origin" in result else dict(sorted(result.items()))


def told(run: Result) -> str:
    """Machine, commit, rounds, and whether others disturbed it."""
    origin = run["origin"]
    threads = origin["threads"]
    threads = f"{threads} thread{'s' * (threads > 1)}" if isinstance(threads, int) else threads
    machine = origin.get("gpu") or origin["processor"]
    parts = [
        f"{machine}, {origin['cores']} cores, {threads}",
        f"commit {origin['commit']}",
        str(origin["date"]),
    ]
    parts += [f"{run['rounds']} rounds"] if "rounds" in run else []
    parts += ["seconds of the process's processor"] if run.get("clock") == CPU else []
    if "disturbed" in run:
        cores = f"others had {run['others_busy_cores']:.2f} cores"
        parts.append(f"**disturbed: {cores}**" if run["disturbed"] else f"quiet: {cores}")
    else:
        parts.append("how much others worked is not told")
    return "; ".join(parts)


def ratios(run: Result, what: str = "throughput_ratios", head: str = "throughput of A / B") -> str:
    """Every ratio with its quartiles."""
    rows = [
        [name, f"{one['median']:.2f}", f"{one['q1']:.2f} to {one['q3']:.2f}"]
        for name, one in run.get(what, {}).items()
    ]
    return tables.table((head, "median", "quartiles"), rows) if rows else ""


def grid(run: Result, what: str, head: str) -> str:
    """Medians of ratios named `load: ours / peer`: a line for each load, a column for each pair."""
    cells = by_load(run, what)
    columns = list(dict.fromkeys(pair for own in cells.values() for pair in own))
    rows = [
        [load, *(f"{own[pair]:.2f}" if pair in own else "" for pair in columns)]
        for load, own in cells.items()
    ]
    return tables.table((head, *columns), rows) if rows else ""


def by_load(run: Result, what: str = "throughput_ratios") -> Bars:
    """The medians of `load: pair`, loads in order of their numbers."""
    found: Bars = {}
    for name, one in sorted(
        run.get(what, {}).items(), key=lambda item: _in_order(item[0].partition(": ")[0])
    ):
        load, _, pair = name.partition(": ")
        found.setdefault(load, {})[pair] = one["median"]
    return found


def _in_order(name: str) -> list[tuple[int, str]]:
    """Numbers as numbers, before words."""
    return [(int(word), "") if word.isdigit() else (10**9, word) for word in name.split()]


def medians(run: Result) -> str:
    """Milliseconds of a round's batches, by load and engine."""
    spent = run.get("round_ms", {})
    columns = list(dict.fromkeys(who for own in spent.values() for who in own))
    rows = [
        [load, *(f"{spent[load][who]:.1f}" if who in spent[load] else "" for who in columns)]
        for load in sorted(spent, key=_in_order)
    ]
    return tables.table(("milliseconds of a round", *columns), rows) if rows else ""


def gaps(run: Result) -> str:
    found = run.get("largest_difference", {})
    listed = ", ".join(f"{who} {gap:.1e}" for who, gap in found.items() if gap)
    return f"Largest difference of a mean state from Hugging Face's padded form: {listed}." if listed else ""


def served(run: Result) -> str:
    """Requests a second and waits, by side and load."""
    rows = [
        [
            load,
            *(f"{run[what][load]:,.1f}" for what in ("requests_per_s", "p50_ms", "p99_ms") if what in run),
        ]
        for load in run.get("requests_per_s", {})
    ]
    head = [title for what, title in _SERVED.items() if what in run]
    return tables.table(("load", *head), rows) if rows else ""


_SERVED = {"requests_per_s": "requests/s", "p50_ms": "median ms", "p99_ms": "p99 ms"}


def memory(run: Result) -> str:
    """Bytes a resident task, in parts, over its own."""
    parts = ("own_bytes", "bank_bytes", "head_bytes", "other_bytes", "host_bytes")
    rows = [
        [
            name,
            *(f"{one[part]:,}" if part in one else "" for part in parts),
            f"{one['host_over_own']:.2f}",
        ]
        for name, one in run.get("memory", {}).items()
    ]
    head = ("resident", "own bytes", "in banks", "in heads", "else", "of the host", "host / own")
    return tables.table(head, rows) if rows else ""


def loads(run: Result) -> str:
    """Of the front: microseconds a request, this tree's and the other's, and ratios."""
    rows = [
        [
            load,
            *(
                f"{one[f'{what}_us_after']:,.0f} ({one[f'{what}_ratio']:.2f})"
                for what in ("loop", "process", "wall")
            ),
        ]
        for load, one in run.get("loads", {}).items()
    ]
    head = ("load", "event loop, µs a request (before / now)", "process, µs", "wall, µs")
    return tables.table(head, rows) if rows else ""


def leaves(run: Result) -> str:
    """Every number of a result, by its path."""
    rows = [
        [name, f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"] for name, value in _numbers(run)
    ]
    return tables.table(("what", "value"), rows) if rows else ""


def _numbers(value: Mapping[str, Any], path: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, one in value.items():
        if isinstance(one, Mapping) and name != "origin":
            found += _numbers(one, f"{path}{name}, ")
        elif isinstance(one, int | float) and not isinstance(one, bool):
            found.append((f"{path}{name}".replace("_", " "), one))
    return found


SHOWN: dict[str, Sequence[Callable[[Result], str]]] = {
    "bare_backbone": (
        lambda run: grid(run, "throughput_ratios", "throughput of A / B"),
        medians,
        gaps,
    ),
    "http_peers": (
        lambda run: grid(run, "throughput_ratios", "requests/s of A / B"),
        lambda run: grid(run, "p99_ratios", "p99 of B / A"),
        served,
    ),
    "residency": (memory, ratios),
    "neighbour": (ratios, served),
    "front": (loads, ratios),
    "hot_load": (leaves,),
}


def bars_of(name: str, result: Result) -> Bars:
    """What the picture of a benchmark shows; nothing where there is none to draw."""
    return _DRAWN[name](result) if result and name in _DRAWN else {}


def _engines(result: Result) -> Bars:
    """Of the fewest threads that were measured."""
    own = runs(result)
    return by_load(own[min(own, key=_in_order)])


def _peers(result: Result) -> Bars:
    """All peers beside each other, by load."""
    found: Bars = {}
    for run in runs(result).values():
        for load, own in by_load(run).items():
            found.setdefault(load, {}).update(own)
    return found


def _memories(result: Result) -> Bars:
    found: Bars = {}
    for name, one in result.get("memory", {}).items():
        method, _, count = name.rpartition(", ")
        found.setdefault(method, {})[count] = one["host_over_own"]
    return found


def _medians(result: Result) -> Bars:
    return {name: {"": one["median"]} for name, one in result.get("throughput_ratios", {}).items()}


_DRAWN: dict[str, Callable[[Result], Bars]] = {
    "bare_backbone": _engines,
    "http_peers": _peers,
    "residency": _memories,
    "mixed_batch": _medians,
    "fan_out": _medians,
    "text_to_text": _medians,
}
AXES = {"residency": "bytes of the host a resident task, over those of its tensors"}
"""What a picture's values are, if not throughput of A over B."""


def main() -> int:
    print(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
