"""Writes the generated sections of README.md and docs/ anew from the code and from results of benchmarks.

A place for a section is a pair of comments; what stands between them is replaced:

    <!-- generated: commands -->      every command of the program with its example
    <!-- generated: errors -->        every error of the HTTP interface with its code and status
    <!-- generated: item-errors -->   every reason for which one input of a request has no answer
    <!-- generated: metrics -->       every metric of the service
    <!-- generated: methods -->       every method: what it does, its paper, its options
    <!-- generated: benchmarks -->    what the scripts in benchmarks/ measured last
    <!-- end generated -->

`--check` writes nothing and ends with status 1 where a file is stale. The tables of counts and settings are
written by `generate_tables.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a script, Python looks for modules beside this file only

from scripts.generate_tables import table  # noqa: E402  (after the path is set)

PLACE = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)
NO_RESULTS = "No results are stored yet: the scripts in `benchmarks/` write them.\n"
GIVEN_CODE = re.compile(r'code="([a-z_]+)"')
INPUT_CODES = {"generate_not_allowed": "`generate` for a task that scores and does not write."}
OPTION_VALUES = {bool: "`true`, `false`", int: "1 and more", float: "a number above 0"}


def commands() -> str:
    """The commands in the order of the help page, each with its first sentence and its example."""
    from typer.main import get_command
    from typer.testing import CliRunner

    from trunkline.cli import app

    rows = []
    for name in getattr(get_command(app), "commands", {}):
        page = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "1000", "NO_COLOR": "1"}).stdout
        lines = [line.strip() for line in page.splitlines() if line.strip()]
        example = next(line for line in lines if line.startswith("Example: ")).removeprefix("Example: ")
        rows.append((f"`{name}`", lines[1], f"`{example}`"))
    return table(("command", "what it does", "example"), rows)


def errors() -> str:
    """Statuses, codes and meanings, from the one table of the service."""
    from service.api.errors import _HTTP_CODES, _TABLE

    rows: dict[tuple[int, str], tuple[str, ...]] = {}
    for kind, status, word, title in _TABLE:
        meaning = (inspect.getdoc(kind) or title).split("\n\n", 1)[0].replace("\n", " ")
        meaning = (
            "A fault of the service; its log has the reason." if meaning.startswith("Base of") else meaning
        )
        rows.setdefault((status, word), (str(status), f"`{word}`", title, meaning))
    for word, sentence in INPUT_CODES.items():
        rows.setdefault((422, word), ("422", f"`{word}`", "Invalid input", sentence))
    sources = [path.read_text() for path in (ROOT / "service" / "api").glob("*.py")]
    said = {code for source in sources for code in GIVEN_CODE.findall(source)}
    if said - INPUT_CODES.keys():
        raise KeyError(f"codes without an explanation: {sorted(said - INPUT_CODES.keys())}")
    for status, word in _HTTP_CODES.items():
        sentence = f"{HTTPStatus(status).description}."
        rows.setdefault((status, word), (str(status), f"`{word}`", HTTPStatus(status).phrase, sentence))
    return table(("status", "code", "title", "meaning"), [rows[key] for key in sorted(rows)])


def item_errors() -> str:
    """The reasons of single inputs, from the one table of the service."""
    from service.errors import ITEM_CODES

    return table(("code", "meaning"), [(f"`{code}`", one.meaning) for code, one in ITEM_CODES.items()])


def metrics() -> str:
    """Names, kinds and meanings as `/metrics` tells them."""
    from prometheus_client.parser import text_string_to_metric_families

    from service.metrics import Metrics

    found = text_string_to_metric_families(Metrics().render().decode())
    rows = [
        (f"`{family.name}{'_total' if family.type == 'counter' else ''}`", family.type, family.documentation)
        for family in found
        if not family.name.endswith("_created")
    ]
    return table(("metric", "kind", "meaning"), rows)


def methods() -> str:
    """A section for each method, from its own file: the module's docstring and its options."""
    from modeling import METHODS

    return "\n".join(_method_section(name, method) for name, method in METHODS.items())


def _method_section(name: str, method: type[Any]) -> str:
    module = importlib.import_module(method.__module__)
    about = inspect.getdoc(module) or ""
    hints = method.options()
    options = [(f"`{f.name}`", _choices(hints[f.name]), f"`{f.default}`") for f in dataclasses.fields(method)]
    listed = table(("option", "values", "default"), options) if options else "It has no options.\n"
    return f"## {name}\n\n{about}\n\n{listed}"


def _choices(hint: Any) -> str:
    """What an option may be: the text of its annotation, or what its type allows."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    said = [mark for mark in get_args(hint) if isinstance(mark, str)]
    return said[0] if said else OPTION_VALUES[hint]


def benchmarks() -> str:
    """The figures of every benchmark whose results are complete; a sentence when there is none."""
    found = [quality_results(), mixed_batch_results(), text_to_text_results()]
    return "\n".join(part for part in found if part) or NO_RESULTS


def quality_results() -> str:
    """Adapters beside full fine-tuning; nothing while the probe, the baseline or Hadamard is incomplete."""
    from benchmarks import quality, record

    cells = record.read(quality.NAME)
    wanted = {f"{task}/{method}" for task in quality.TASKS for method in ("linear_probe", "full", "hadamard")}
    if wanted - cells.keys():
        return ""
    return (
        "Validation metric (x 100) on MiniLM, one run each; `full` is full fine-tuning of every parameter,\n"
        "with the same data, loop and head ([quality.json](benchmarks/results/quality.json)):\n\n"
        f"{quality.table(cells)}\n"
        "All methods, with one rate for all tasks, are in [docs/results.md](docs/results.md). That table is\n"
        "stricter: 5,000 rows of SST-2 where these are 10,000, F1 beside accuracy on MRPC, the state after\n"
        "three epochs where these are the best of three to five, steps in bfloat16. So figures differ.\n"
    )


def mixed_batch_results() -> str:
    """Throughput ratios and memory per task."""
    from benchmarks import mixed_batch, record

    result = record.read(mixed_batch.NAME)
    if not result:
        return ""
    told, where = _machine(result["origin"]), "benchmarks/results/mixed_batch.json"
    size = result["resident_bytes_per_hadamard_task"]
    return (
        f"Throughput of A over B on the same texts ({result['mean_tokens_per_row']} tokens on average, "
        f"{result['rows_per_batch']} rows a batch; {told}; [mixed_batch.json]({where})):\n\n"
        f"{_ratios(result)}\n"
        f"A resident Hadamard task takes {size:,} bytes of memory.\n"
    )


def text_to_text_results() -> str:
    """Throughput ratios of an encoder-decoder."""
    from benchmarks import record, text_to_text

    result = record.read(text_to_text.NAME)
    if not result:
        return ""
    where = "benchmarks/results/text_to_text.json"
    return (
        f"Text to text on T5-small's shape with random weights, {result['rows']} rows a batch "
        f"({_machine(result['origin'])}; [text_to_text.json]({where})):\n\n{_ratios(result)}"
    )


def _ratios(result: dict[str, Any]) -> str:
    rows = [
        (name, f"{ratio['median']:.2f}", f"{ratio['q1']:.2f} to {ratio['q3']:.2f}")
        for name, ratio in result["throughput_ratios"].items()
    ]
    return table(("A / B", "median", "quartiles"), rows)


def _machine(origin: dict[str, Any]) -> str:
    return str(origin.get("gpu") or f"{origin['threads']} thread(s) of {origin['processor']}")


SECTIONS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "errors": errors,
    "item-errors": item_errors,
    "metrics": metrics,
    "methods": methods,
    "benchmarks": benchmarks,
}


def renewed(text: str) -> str:
    """The document with every section made anew. Raises KeyError for a section nobody knows."""
    return PLACE.sub(lambda match: match[1] + SECTIONS[match[2]]() + match[3], text)


def main() -> int:
    """Exit status: 0 all up to date (or now written), 1 stale with --check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a section is stale")
    check = parser.parse_args().check
    stale = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        new = renewed(text)
        if new != text:
            stale += 1
            state = "stale, run scripts/generate_docs.py" if check else "written"
            print(f"{path.relative_to(ROOT)}: {state}")
            if not check:
                path.write_text(new)
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
