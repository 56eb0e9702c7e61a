"""Writes the generated sections of README.md and docs/ anew from the code and from results of benchmarks.

A place for a section is a pair of comments; what stands between them is replaced:

    <!-- generated: commands -->              every command of the program with its example
    <!-- generated: errors -->                every error of the HTTP interface with its code and status
    <!-- generated: item-errors -->           every reason for which one input of a request has no answer
    <!-- generated: metrics -->               every metric of the service
    <!-- generated: service-settings -->      every setting of the service
    <!-- generated: training-settings -->     every setting of a training run
    <!-- generated: methods -->               every method: what it does, its paper, its options
    <!-- generated: counts bert-base -->      parameters, share and file size of every method, by model
    <!-- generated: paper-shares t5-base -->  the papers' trainable shares beside ours
    <!-- generated: benchmarks -->            what the scripts in benchmarks/ measured last
    <!-- generated: research-layers ia3 -->  of `benchmarks.research_layers`: a method, alone, agreement or
                                              answer
    <!-- generated: research-sharing rule -->  of `benchmarks.research_sharing`: shared, start, rule or answer
    <!-- generated: research-hadamard parts -->  of `benchmarks.research_hadamard`: parts, layers, heads,
                                              errors, cosines, by-layer, answer, or pairs of scale or shift
    <!-- generated: measured results_table full_rates -->  a table of the results of a script in `benchmarks/`
    <!-- generated: training-cost t5-small cpu 16x64 -->  of `benchmarks.training_cost`
    <!-- generated: training-speed -->        of `benchmarks.training_speed`
    <!-- generated: learners-together -->     of `benchmarks.learners_together`
    <!-- generated: performance -->           all of docs/performance.md that scripts measured
    <!-- end generated -->

`--check` writes nothing and ends with status 1 where a file is stale. An unknown section ends it with 2.
"""

import argparse
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a script, Python looks for modules beside this file only

PLACE = re.compile(r"(<!-- generated: ([a-z-]+)((?: [\w.-]+)*) -->\n).*?(<!-- end generated -->)", re.DOTALL)
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


def service_settings() -> str:
    from service.settings import Settings

    rows = [
        (flag(name), f"`TRUNKLINE_{name.upper()}`", shown(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return table(("flag", "variable", "default", "meaning"), rows)


def training_settings() -> str:
    from training.settings.config import TrainConfig

    rows = [
        (flag(field.name), shown(default_of(field)), field.metadata["help"])
        for field in dataclasses.fields(TrainConfig)
    ]
    return table(("flag", "default", "meaning"), rows)


def flag(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"


def default_of(field: dataclasses.Field[object]) -> object:
    """A dataclass field's default, `MISSING` where a value must be given."""
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def shown(default: object) -> str:
    """A default as a reader sees it; nothing for "not set"."""
    if default is dataclasses.MISSING:
        return "required"
    return "" if default in (None, "", {}, ()) else f"`{default}`"


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


def counts(architecture: str) -> str:
    """Every method with its default options on one architecture; the head is that of two labels."""
    from modeling import methods_table

    rows = [
        (
            f"`{row.method}`",
            f"{row.parameters:,}",
            f"{row.share_percent:.3f} %",
            f"{row.file_bytes / 1000:,.1f} kB",
        )
        for row in methods_table(architecture)
    ]
    head = ("method", "parameters", "share of the backbone", "tensors in the file, with a 2-label head")
    return table(head, rows)


def benchmarks() -> str:
    """The figures of every benchmark whose results are complete; a sentence when there is none."""
    found = [quality_results(), mixed_batch_results(), text_to_text_results()]
    return "\n".join(part for part in found if part) or NO_RESULTS


def quality_results() -> str:
    """Every method beside full fine-tuning and the alternatives; nothing before the first run."""
    from benchmarks import record, results_table

    cells = record.read(results_table.NAME)
    if not cells:
        return ""
    return (
        "Test scores (x 100) on MiniLM, shipped defaults, mean ± standard error over seeds; the rows are\n"
        "explained in [docs/results.md](docs/results.md)"
        " ([results_table.json](benchmarks/results/results_table.json)):\n\n"
        f"{results_table.table(cells)}\n"
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


def paper_shares(architecture: str) -> str:
    from benchmarks import papers

    return papers.table(architecture) + "\n"


def training_cost(shape: str, device: str, batch: str) -> str:
    """Memory and time of a training step relative to full fine-tuning; a sentence while not measured."""
    from benchmarks import record, training_cost

    result = record.read(training_cost.NAME).get(f"{shape}/{device}/{batch}")
    return (training_cost.described(result) if result else "Not measured yet.") + "\n"


def research_layers(what: str) -> str:
    from benchmarks import record, research_layers

    own, found = research_layers, record.read(research_layers.NAME)
    show = {"alone": own.alone, "agreement": own.agreement, "answer": own.answer}
    return (show[what](found) if what in show else own.frontier(found, what)) + "\n"


def research_sharing(what: str) -> str:
    from benchmarks import record, research_sharing

    own = research_sharing
    show = {"shared": own.shared, "start": own.start, "rule": own.rule, "answer": own.answer}
    return show[what](record.read(own.NAME)) + "\n"


def research_hadamard(what: str, *names: str) -> str:
    from benchmarks import record, research_hadamard

    own = research_hadamard
    show = {f.__name__: f for f in (own.parts, own.layers, own.heads, own.errors, own.cosines, own.answer)}
    show["by-layer"] = own.by_layer
    found = record.read(own.NAME)
    return (own.pairs(found, *names) if what == "pairs" else show[what](found)) + "\n"


def measured(script: str, what: str = "table") -> str:
    """What the function `what` of a script makes of its results; a sentence while there are none."""
    from benchmarks import record

    module = importlib.import_module(f"benchmarks.{script}")
    cells = record.read(module.NAME)
    return (getattr(module, what)(cells) if cells else "Not measured yet.") + "\n"


def training_speed() -> str:
    from benchmarks import record, training_speed

    return training_speed.table(record.read(training_speed.NAME)) + "\n"


def learners_together() -> str:
    from benchmarks import learners_together, record

    return learners_together.table(record.read(learners_together.NAME)) + "\n"


def performance() -> str:
    from benchmarks import performance as own

    return own.page()


SECTIONS: dict[str, Callable[..., str]] = {
    "commands": commands,
    "errors": errors,
    "item-errors": item_errors,
    "metrics": metrics,
    "service-settings": service_settings,
    "training-settings": training_settings,
    "methods": methods,
    "counts": counts,
    "paper-shares": paper_shares,
    "benchmarks": benchmarks,
    "measured": measured,
    "training-cost": training_cost,
    "research-layers": research_layers,
    "research-sharing": research_sharing,
    "research-hadamard": research_hadamard,
    "training-speed": training_speed,
    "learners-together": learners_together,
    "performance": performance,
}


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def renewed(text: str) -> str:
    """The document with every section made anew. Raises KeyError for a section nobody knows."""
    return PLACE.sub(lambda match: match[1] + SECTIONS[match[2]](*match[3].split()) + match[4], text)


def main() -> int:
    """Exit status: 0 all up to date (or now written), 1 stale with --check, 2 unknown section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a section is stale")
    check = parser.parse_args().check
    stale = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text, name = path.read_text(), path.relative_to(ROOT)
        try:
            new = renewed(text)
        except KeyError as error:
            print(f"{name}: no section {error}; there are: {', '.join(SECTIONS)}", file=sys.stderr)
            return 2
        if new != text:
            stale += 1
            print(f"{name}: {'stale, run `make docs`' if check else 'written'}")
            if not check:
                path.write_text(new)
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
