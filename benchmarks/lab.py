"""Does `--method auto` find in 0.3 of a grid's time what the best cell of the grid reaches?

The grid: four methods at three rates, each trained alone to its end, on the same rows. The lab then has 0.3
of the seconds that took. Test rows chose nothing: the grid's best is told twice, by the held-out rows (what a
person would ship) and by the test rows (the bound that no choice can pass).

    python -m benchmarks.lab --data ../shared/data [--case trec] [--rows 1000] [--seeds 3] [--device cuda]
    python -m benchmarks.lab --table        # only print what there is
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import contest, record, tables
from benchmarks.draws import Case, draw

NAME = "lab"
SHARE = 0.3
GRID = ("hadamard", "lora", "pfeiffer", "ia3")
CASES = {
    case.data: case
    for case in (
        Case("6 question types", "trec", rows=1000),
        Case("64 intents", "hwu64", rows=1000),
        Case("two classes", "sst2", rows=1000, tests=("validation",)),
    )
}
Cells = dict[str, Any]


def cells_of_grid() -> list[dict[str, Any]]:
    """Settings of the twelve runs: a method, and its default rate, a third of it and three times it."""
    from training.lab.arms import RATES
    from training.settings.defaults import defaults_for

    return [
        {"method": method, "lr": float(f"{(defaults_for(method).lr or 3e-3) * times:.3g}")}
        for method in GRID
        for times in RATES
    ]


def one_run(folder: Path, backbone: Any, device: str, seed: int, **settings: Any) -> Cells:
    """Train, publish without a fresh process, and answer the test rows."""
    from proof.check import check_file
    from training.file.evaluate import evaluate_file
    from training.lab.search import search
    from training.run import train
    from training.settings.config import TrainConfig

    out = folder / "out.safetensors"
    named: dict[str, Any] = {"data": str(folder), "task": "case", "out": str(out), "device": device}
    config = TrainConfig(**named, seed=seed, metric="accuracy", resume=False, **settings)
    started = time.monotonic()
    result = train(
        config,
        backbone=backbone,
        verify=lambda path, _: check_file(path.read_bytes(), backbone),
        search=search,
    )
    seconds = time.monotonic() - started
    found = evaluate_file(out, folder, "test", backbone=backbone)
    board = result.leaderboard
    return {
        "method": result.method,
        "settings": settings,
        "seconds": round(seconds, 2),
        "held_out": result.value,
        "test": found.metrics["accuracy"],
        "file_bytes": out.stat().st_size,
        "arms": None if board is None else len(board.standings),
    }


def measure(case: Case, data: Path, backbone: str, device: str, seed: int) -> Cells:
    """The grid, then the lab within its share of the grid's time."""
    opened, drawn = contest.open_backbone(backbone, device), draw(case, data, seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn.write(folder)
        one_run(folder, opened, device, seed, method="linear_probe")  # warms up
        grid = [one_run(folder, opened, device, seed, **settings) for settings in cells_of_grid()]
        whole = sum(cell["seconds"] for cell in grid)
        lab = one_run(folder, opened, device, seed, method="auto", budget=f"{SHARE * whole:.2f}s")
    told: Cells = {"case": case.name, "rows": case.rows, "seed": seed, "device": device, "grid": grid}
    return told | {"lab": lab, "grid_seconds": round(whole, 2), "origin": record.origin()}


def summary(cell: Cells) -> Cells:
    """Points (x 100) of the lab over the grid's best, and its share of the time."""
    grid, lab = cell["grid"], cell["lab"]
    shipped = max(grid, key=lambda one: one["held_out"])
    bound = max(one["test"] for one in grid)
    return {
        "lab": 100 * lab["test"],
        "shipped": 100 * shipped["test"],
        "bound": 100 * bound,
        "over_shipped": 100 * (lab["test"] - shipped["test"]),
        "over_bound": 100 * (lab["test"] - bound),
        "ratio": lab["seconds"] / cell["grid_seconds"],
    }


def table(cells: dict[str, Cells]) -> str:
    """One line a case and seed."""
    lines = []
    for _, cell in sorted(cells.items()):
        found = summary(cell)
        points = [f"{found[name]:.1f}" for name in ("lab", "shipped", "bound")]
        gaps = [f"{found[name]:+.1f}" for name in ("over_shipped", "over_bound")]
        told = [cell["case"], str(cell["seed"]), f"`{cell['lab']['method']}`", *points, *gaps]
        lines.append([*told, f"{found['ratio']:.2f}"])
    names = ["case", "seed", "the lab's choice", "its accuracy", "the grid's choice", "the grid's best"]
    return tables.table([*names, "over the choice", "over the best", "time over the grid's"], lines)


def kept(name: str) -> dict[str, Cells]:
    """What the result file holds."""
    path = record.RESULTS / f"{name}.json"
    found: dict[str, Cells] = json.loads(path.read_text())["cells"] if path.is_file() else {}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default=NAME)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    cells = kept(args.name)
    for seed in [] if args.table else range(args.seeds):
        for data in args.case or CASES:
            case = Case(**{**vars(CASES[data]), "rows": args.rows})
            cell = measure(case, args.data, args.backbone, args.device, seed)
            cells[f"{case.name}/{case.rows}/{args.device}/{seed}"] = cell
            record.write(args.name, {"cells": cells})
            print(f"{case.name}, seed {seed}: {summary(cell)}", flush=True)
    print(table(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
