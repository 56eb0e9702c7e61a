"""Hadamard adapters with ever fewer layers: score against parameters, pruned by drift and trained anew.

The Hadamard paper keeps 8 of 12 layers (0.022 % of BERT-base) and reports almost the same scores. Here: an
adapter of all layers is pruned without training again; and two thirds of the layers, chosen by drift or from
the top, are trained from the start. Rate, rows and epochs are those of `method_quality`, in float32.

    python -m benchmarks.pruning --data ../shared/data      # resumes: finished tasks are kept
    python -m benchmarks.pruning --table                    # only print what there is
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import method_quality, record

NAME = "pruning"
TASKS = ("trec", "sst2")
METHOD = "hadamard"
PRESET = "last-two-thirds"


def run_task(task: str, data: Path, seed: int) -> dict[str, Any]:
    """Train, prune, and train with two thirds of the layers alone."""
    from benchmarks.cells import open_backbone
    from training.file.prune import prune_file
    from training.run import train
    from training.settings.config import TrainConfig

    backbone = open_backbone()
    lr = method_quality.chosen_rate(record.read(method_quality.NAME), METHOD)
    settings: dict[str, Any] = {
        "data": str(data / task),
        "task": task,
        "method": METHOD,
        "lr": lr,
        "epochs": method_quality.EPOCHS,
        "evaluate_steps": method_quality.AT_THE_END,
        "seed": seed,
        **method_quality.TASKS[task],
    }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "all.safetensors"
        train(TrainConfig(**settings, out=str(out)), backbone=backbone)
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
        "settings": {"lr": lr, "epochs": method_quality.EPOCHS},
        "backbone_parameters": backbone.num_parameters,
        "origin": record.origin(),
    }


def table(found: dict[str, Any]) -> str:
    """A row for each number of layers, then the two that were trained with two thirds of them alone."""
    tasks = [task for task in TASKS if task in found]
    lines = ["| layers | trained parameters | share | " + " | ".join(tasks) + " |"]
    lines.append("| --- | --: | --: |" + " --: |" * len(tasks))
    if not tasks:
        return "\n".join(lines)
    first = found[tasks[0]]
    for row, one in enumerate(first["pruned"]):
        cells = [found[task]["pruned"][row] for task in tasks]
        kept = [", ".join(map(str, cell["layers"])) for cell in cells]
        values = [f"{100 * c['value']:.1f} ({k})" for c, k in zip(cells, kept, strict=True)]
        lines.append(_line(f"{len(one['layers'])}, pruned", one["parameters"], first, values))
    for name, words in (("drift", "by drift"), (PRESET, f"`{PRESET}`")):
        values = [f"{100 * found[task]['alone'][name]['value']:.1f}" for task in tasks]
        parameters = first["alone"][name]["parameters"]
        lines.append(_line(f"two thirds {words}, trained alone", parameters, first, values))
    return "\n".join(lines)


def _line(name: str, parameters: int, result: dict[str, Any], values: list[str]) -> str:
    share = f"{100 * parameters / result['backbone_parameters']:.3f} %"
    return f"| {name} | {parameters:,} | {share} | " + " | ".join(values) + " |"


def main() -> int:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of data sets")
    parser.add_argument("--task", action="append", choices=TASKS, help="only these tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="run tasks that are there already")
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    args = parser.parse_args()
    for task in args.task or TASKS:
        if not args.table and (args.again or task not in record.read(NAME)):
            record.add(NAME, task, run_task(task, args.data, args.seed))
    print(table(record.read(NAME)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
