"""Writes the generated tables of README.md and docs/ anew from the code that they describe.

A place for a table is a pair of comments; what stands between them is replaced:

    <!-- table: methods bert-base -->      parameters, share and file size of every method on an architecture
    <!-- table: service-settings -->       every setting of the service
    <!-- table: training-settings -->      every setting of a training run
    <!-- table: paper-shares t5-base -->   the papers' trainable shares beside ours
    <!-- table: method-quality rates -->   what `benchmarks.method_quality` found: quality, rates, tried
    <!-- table: low-resource trec -->      what `benchmarks.low_resource` found on a task
    <!-- table: longer-training -->        what `benchmarks.longer_training` found
    <!-- table: seeds -->                  what `benchmarks.seeds` found
    <!-- table: pruning -->                what `benchmarks.pruning` found
    <!-- table: training-cost t5-small cpu 16x64 -->  what `benchmarks.training_cost` found
    <!-- end table -->

`--check` writes nothing and ends with status 1 where a file is stale. An unknown table ends it with 2.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"(<!-- table: ([a-z-]+)((?: [\w.-]+)*) -->\n).*?(<!-- end table -->)", re.DOTALL)


def methods(architecture: str) -> str:
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
    return table(
        ("method", "parameters", "share of the backbone", "tensors in the file, with a 2-label head"), rows
    )


def service_settings() -> str:
    """Every setting of the service with its variable and default."""
    from service.settings import Settings

    rows = [
        (
            f"`--{name.replace('_', '-')}`",
            f"`TRUNKLINE_{name.upper()}`",
            shown(field.default),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    return table(("flag", "variable", "default", "meaning"), rows)


def training_settings() -> str:
    """Every setting of a training run with its default."""
    from training.settings.config import TrainConfig

    rows = [
        (f"`--{field.name.replace('_', '-')}`", shown(default_of(field)), str(field.metadata.get("help", "")))
        for field in dataclasses.fields(TrainConfig)
    ]
    return table(("flag", "default", "meaning"), rows)


def paper_shares(architecture: str) -> str:
    """The trainable shares that the papers print, and ours."""
    from benchmarks import papers

    return papers.table(architecture) + "\n"


def method_quality(what: str = "quality") -> str:
    """Tables of the results of `benchmarks/method_quality.py`: quality, rates or precision."""
    from benchmarks import method_quality, quality_tables, record

    made = (quality_tables.quality, quality_tables.rates, quality_tables.tried, quality_tables.precision)
    show = {f.__name__: f for f in made}
    return show[what](record.read(method_quality.NAME)) + "\n"


def low_resource(task: str) -> str:
    """Score against training rows."""
    from benchmarks import low_resource, record

    return low_resource.table(record.read(low_resource.NAME), task) + "\n"


def longer_training() -> str:
    """Three epochs and the paper's twenty."""
    from benchmarks import longer_training, method_quality, record

    found = record.read(longer_training.NAME)
    return longer_training.table(found, record.read(method_quality.NAME)) + "\n"


def seeds() -> str:
    """Mean and range of several seeds."""
    from benchmarks import method_quality, record, seeds

    return seeds.table(record.read(seeds.NAME), record.read(method_quality.NAME)) + "\n"


def pruning() -> str:
    """Score against layers."""
    from benchmarks import pruning, record

    return pruning.table(record.read(pruning.NAME)) + "\n"


def training_cost(shape: str, device: str, batch: str) -> str:
    """Memory and time of a training step relative to full fine-tuning; a sentence while not measured."""
    from benchmarks import record, training_cost

    result = record.read(training_cost.NAME).get(f"{shape}/{device}/{batch}")
    return (training_cost.described(result) if result else "Not measured yet.") + "\n"


TABLES: dict[str, Callable[..., str]] = {
    "methods": methods,
    "service-settings": service_settings,
    "training-settings": training_settings,
    "paper-shares": paper_shares,
    "method-quality": method_quality,
    "low-resource": low_resource,
    "longer-training": longer_training,
    "seeds": seeds,
    "pruning": pruning,
    "training-cost": training_cost,
}


def default_of(field: "dataclasses.Field[object]") -> object:
    """A dataclass field's default, `MISSING` where a value must be given."""
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def shown(default: object) -> str:
    """A default as a reader sees it; nothing for "not set"."""
    if default is dataclasses.MISSING:
        return "required"
    return "" if default in (None, "", {}) else f"`{default}`"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def renewed(text: str) -> str:
    """The document with every table made anew. Raises KeyError for a table nobody knows."""

    def fill(match: re.Match[str]) -> str:
        return match[1] + TABLES[match[2]](*match[3].split()) + match[4]

    return PLACE.sub(fill, text)


def main() -> int:
    """Exit status: 0 all up to date (or now written), 1 stale with --check, 2 unknown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a table is stale")
    check = parser.parse_args().check
    stale = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        try:
            new = renewed(text)
        except KeyError as error:
            print(
                f"{path.relative_to(ROOT)}: no table {error}; there are: {', '.join(TABLES)}", file=sys.stderr
            )
            return 2
        if new != text:
            stale += 1
            print(f"{path.relative_to(ROOT)}: {'stale, run `make docs`' if check else 'written'}")
            if not check:
                path.write_text(new)
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
