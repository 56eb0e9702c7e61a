"""What does reading rows cost, beside the library that reads? A million rows of Parquet and CSV.

Every measurement is a fresh process: its time (the library is imported before), and its peak memory less that
of a process that only imports. All take turns; told is the median of the ratios to pyarrow's own read of the
same turn. `distinct` reads and finds the different labels; `labels` finds fields and kind as well and gives
each row its label by the law; `data` is all that comes before training: checked examples, held-out rows,
repeated texts, the digest (its rows are Python objects); `batches` keeps none of its tables of 8,192 rows.

    python -m benchmarks.reading
    python -m benchmarks.reading --rows 100000 --turns 1
    python -m benchmarks.reading --table                  # only print what there is
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from benchmarks import record
from training.data.card import Flags, read_card
from training.data.load import load_data
from training.rows.canonical import occurrences
from training.rows.tables import Table, read_batches, read_table
from training.settings.config import TrainConfig

NAME = "reading"
FILES = ("rows.parquet", "rows.csv", "quoted.csv")
LIBRARY = "library"


def _library(path: Path) -> Any:
    return parquet.read_table(path) if path.suffix == ".parquet" else arrow_csv.read_csv(path)


def _labelled(path: Path) -> tuple[Table, npt.NDArray[np.int64]]:
    """The rows, and for each the index of its label by the law of labels."""
    table = read_table([path])
    card = read_card(path, {"train": table}, Flags())
    labels, _ = card.task.read_labels(occurrences([table], "label"), card.label_names, "label")
    found = table.distinct("label")
    return table, np.array([labels.index(value) for value in found.values])[found.codes]


WAYS: dict[str, Callable[[Path], Any]] = {
    "import": lambda path: path,
    LIBRARY: _library,
    "table": lambda path: read_table([path]),
    "distinct": lambda path: read_table([path]).distinct("label"),
    "labels": _labelled,
    "data": lambda path: load_data(TrainConfig(data=str(path), task="t")),
    "batches": lambda path: sum(table.num_rows for table in read_batches([path])),
}


def make(folder: Path, num_rows: int) -> None:
    """Texts of about 60 characters with 20 labels; in `quoted.csv` every cell has quotes."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)]
    texts = [" ".join(rng.choices(words, k=10)) for _ in range(num_rows)]
    table = pa.table({"text": texts, "label": [f"label {rng.randrange(20)}" for _ in texts]})
    parquet.write_table(table, folder / "rows.parquet")
    for name, style in (("rows.csv", "none"), ("quoted.csv", "all_valid")):
        arrow_csv.write_csv(table, folder / name, arrow_csv.WriteOptions(quoting_style=style))


def measure(way: str, path: Path) -> dict[str, float]:
    """Seconds and peak bytes of a fresh process; by a shell, for a child begins with its parent's peak."""
    command = [sys.executable, "-m", "benchmarks.reading", "--measure", way, str(path)]
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", *command], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(way: str, path: Path) -> dict[str, float]:
    """The same of this process."""
    start = time.perf_counter()
    kept = WAYS[way](path)
    seconds = time.perf_counter() - start
    del kept
    return {"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def compare(path: Path, turns: int) -> dict[str, dict[str, float]]:
    """For every way the medians of time and memory, and of their ratios to the library's of the same turn."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(turns):
        for way, runs in found.items():
            runs.append(measure(way, path))
    base = statistics.median(run["bytes"] for run in found.pop("import"))
    own = [run["bytes"] - base for run in found[LIBRARY]]
    return {
        way: {
            "seconds": statistics.median(run["seconds"] for run in runs),
            "megabytes": statistics.median((run["bytes"] - base) / 2**20 for run in runs),
            "time_ratio": statistics.median(
                run["seconds"] / first["seconds"] for run, first in zip(runs, found[LIBRARY], strict=True)
            ),
            "memory_ratio": statistics.median(
                (run["bytes"] - base) / first for run, first in zip(runs, own, strict=True)
            ),
        }
        for way, runs in found.items()
    }


def print_table(payload: dict[str, Any]) -> None:
    print(f"{payload['rows']:,} rows; ratios to pyarrow's own read\n")
    print(f"{'file':13} {'way':9} {'seconds':>8} {'MB':>6} {'time':>6} {'memory':>7}")
    for name in FILES:
        for way, told in payload["files"][name].items():
            ratios = f"{told['time_ratio']:6.2f} {told['memory_ratio']:7.2f}"
            print(f"{name:13} {way:9} {told['seconds']:8.2f} {told['megabytes']:6.0f} {ratios}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="only print the results that there are")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FILE"), help="this process reads once")
    flags = parser.parse_args()
    if flags.measure:
        print(json.dumps(measured(flags.measure[0], Path(flags.measure[1]))))
        return 0
    if not flags.table:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), flags.rows)
            files = {name: compare(Path(folder) / name, flags.turns) for name in FILES}
        record.write(
            NAME, {"origin": record.origin(), "rows": flags.rows, "turns": flags.turns, "files": files}
        )
    print_table(record.read(NAME))
    return 0


if __name__ == "__main__":
    sys.exit(main())
