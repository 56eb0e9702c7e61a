"""Result tables in Markdown, and the options of the programs that fill and print them."""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, num_names: int = 1) -> str:
    """Columns after the first `num_names` are numbers and stand to the right."""
    marks = ["---"] * num_names + ["--:"] * (len(head) - num_names)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, marks, *rows])


def points(score: float | None) -> str:
    """A score times 100; nothing where there is none."""
    return "" if score is None else f"{100 * score:.1f}"


def options(
    about: str | None, tasks: Collection[str], methods: Collection[str] = (), *, timed: bool = False
) -> argparse.ArgumentParser:
    """What every program of a table takes: the data, a choice of tasks (and methods), `--table`.

    With `timed` a time after which no cell is started.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of data sets")
    parser.add_argument("--task", action="append", choices=tasks, help="only these tasks")
    if methods:
        text = "only these methods, in this order"
        parser.add_argument("--method", action="append", choices=methods, help=text)
    if timed:
        parser.add_argument("--minutes", type=float, default=1e6, help="start no cell after this time")
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    return parser
