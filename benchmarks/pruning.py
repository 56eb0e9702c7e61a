"""Hadamard adapters with ever fewer layers: score against parameters, pruned by drift and trained anew.

The Hadamard paper keeps 8 of 12 layers (0.022 % of BERT-base) and reports almost the same scores. Here: an
adapter of all layers is pruned without training again; and two thirds of the layers, chosen by drift or from
the top, are trained from the start, by the shipped defaults, on at most 5,000 rows.

    python -m benchmarks.pruning --data ../shared/data      # resumes: finished tasks are kept
    python -m benchmarks.pruning --table                    # only print what there is
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import record, tables
from benchmarks.cells import SETTINGS, open_backbone
from training.file.prune import prune_file
from training.run import train
from training.settings.config import TrainConfig

NAME = "pruning"
TASKS = ("trec", "sst2")
METHOD = "hadamard"
PRESET = "last-two-thirds"


def run_task(task: str, data: Path, seed: int) -> dict[str, Any]:
    """Train, prune, and train with two thirds of the layers alone."""
    backbone = open_backbone()
    settings: dict[str, Any] = {
        "data": str(data / task),
        "task": task,
        "method": METHOD,
        "seed": seed,
        **SETTINGS.get(task, {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "all.safetensors"
        whole = train(TrainConfig(**settings, out=str(out)), backbone=backbone)
        pruned = prune_file(out, data / task, backbone=backbone)
    alone = {}
    for name, layers in (("drift", list(pruned.kept)), (PRESET, PRESET)):
        config = TrainConfig(**settings, method_config={"layers": layers})
        result = train(config, backbone=backbone, write_file=False)
        alone[name] = {"value": result.metrics[result.metric], "parameters": result.num_body_parameters}
    return {
        "task": task,
        "metric": pruned.metric,
        "drifts": [[drift.layer, drift.drift] for drift in pruned.drifts],
        "pruned": [
            {"layers": list(s.layers), "parameters": s.parameters, "value": s.metrics[pruned.metric]}
            for s in pruned.scores
        ],
        "alone": alone,
        "seed": seed,
        "settings": dict(whole.hyper),
        "backbone_parameters": backbone.num_parameters,
        "origin": record.origin(),
    }


def table(found: dict[str, Any]) -> str:
    """A row for each number of layers, then the two that were trained with two thirds of them alone."""
    tasks = [task for task in TASKS if task in found]
    first, rows = found[tasks[0]] if tasks else {"pruned": (), "alone": ()}, []
    for row, one in enumerate(first["pruned"]):
        cells = [found[task]["pruned"][row] for task in tasks]
        values = [f"{tables.points(c['value'])} ({', '.join(map(str, c['layers']))})" for c in cells]
        rows.append([f"{len(one['layers'])}, pruned", *_size(one, first), *values])
    for name in first["alone"]:
        values = [tables.points(found[task]["alone"][name]["value"]) for task in tasks]
        words = "by drift" if name == "drift" else f"`{name}`"
        rows.append([f"two thirds {words}, trained alone", *_size(first["alone"][name], first), *values])
    return tables.table(["layers", "trained parameters", "share", *tasks], rows)


def _size(cell: dict[str, Any], result: dict[str, Any]) -> tuple[str, str]:
    count = cell["parameters"]
    return f"{count:,}", f"{100 * count / result['backbone_parameters']:.3f} %"


def main() -> int:
    parser = tables.options(__doc__, TASKS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="run tasks that are there already")
    args = parser.parse_args()
    for task in args.task or TASKS:
        if not args.table and (args.again or task not in record.read(NAME)):
            record.add(NAME, task, run_task(task, args.data, args.seed))
    print(table(record.read(NAME)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
