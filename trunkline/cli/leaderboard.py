"""How a search's leaderboard looks: one line for each arm, the chosen one marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline.cli.printing import note, print_table, size

if TYPE_CHECKING:
    from training.report.leaderboard import Leaderboard, Standing


def print_leaderboard(board: Leaderboard) -> None:
    """As a table, with what is to be said of it."""
    columns = [
        "",
        "method",
        "rate>",
        "layers",
        "steps>",
        f"{board.metric}>",
        "to the best>",
        "",
        "parameters>",
    ]
    columns += ["file>", "seconds>"]
    shown = [line for line in board.standings if line.failed is None]
    print_table(columns, map(_row, shown), title=f"tried, on {board.num_rows:,} held-out rows")
    for line in board.standings:
        if line.failed is not None:
            note(f"{line.method} at {line.lr:g} failed: {line.failed}")
    if board.num_untried:
        note(f"{board.num_untried} arms had no time within {board.budget_s:.0f} s; give a larger --budget")


def _row(line: Standing) -> tuple[object, ...]:
    return (
        "*" if line.chosen else " ",
        line.method,
        None if line.lr is None else f"{line.lr:g}",
        line.layers,
        f"{line.share:.0%}",
        _with_error(line),
        _difference(line),
        _verdict(line),
        f"{line.num_parameters:,}",
        size(line.file_bytes),
        f"{line.seconds:.1f}",
    )


def _with_error(line: Standing) -> str:
    error = "" if line.error is None else f" ± {line.error:.4f}"
    return f"{line.value:.4f}{error}"


def _difference(line: Standing) -> str | None:
    if line.difference is None:
        return None
    interval = "" if line.interval is None else " ({:+.4f} to {:+.4f})".format(*line.interval)
    return f"{line.difference:+.4f}{interval}"


def _verdict(line: Standing) -> str:
    if line.difference is None:
        return "best"
    if not line.apart:
        return "no difference"
    by_metric = line.interval is not None and not line.interval[0] <= 0 <= line.interval[1]
    return "worse" if by_metric else "worse by its loss"
