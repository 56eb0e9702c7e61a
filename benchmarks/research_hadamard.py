"""What a Hadamard adapter does: how far attention outputs move, which layers matter, what tasks share.

For each task and seed an adapter with its norms is trained, and others with parts of it alone (w, b, the
norms, w and b). Of the whole one: the score with each layer off and with each alone; w - 1 and b, whose
cosines between tasks are told; how far the output of every attention head moves on the judging rows, and
whether it moves further where the adapter puts an error right.

    python -m benchmarks.research_hadamard --data ../shared/data --device cuda --workers 16   # resumes
    python -m benchmarks.research_hadamard --table                                # only print what there is
"""

import base64
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch

from benchmarks import research_pool, tables
from benchmarks.research_bench import Bench, Floats, Given, correlation, frozen
from benchmarks.research_tables import by_seed, difference, mean_and_spread, not_measured, told
from modeling import Adapter, Backbone
from modeling.attention_change import changes, sizes
from modeling.switches import only, switches_of
from training.loop.encode import state_batches

NAME = "research_hadamard"
TASKS = ("trec", "stackoverflow20", "sst2", "cola", "mrpc", "stsb")
METHOD = "hadamard"
PARTS: dict[str, Callable[[str], bool]] = {
    "w, b and norm": lambda name: True,
    "w and b": lambda name: "attn_norm" not in name,
    "w alone": lambda name: name.endswith("/scale"),
    "b alone": lambda name: name.endswith("/shift"),
    "norm alone": lambda name: "attn_norm" in name,
}
WHOLE = "w, b and norm"
NEUTRAL = {"scale": 1.0, "shift": 0.0}  # vectors are kept as what moved from there
VECTORS = {
    "w - 1": ("scale", 0.0),
    "w": ("scale", 1.0),
    "b": ("shift", 0.0),
}  # the part, and what is added to it


def groups(
    given: Given, seeds: Sequence[int], tasks: Sequence[str] | None
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Keys `task/seed`, each a group."""
    for seed in seeds:
        for task in tasks or TASKS:
            yield (f"{task}/{seed}",), len(PARTS) * given.epochs * given.rows / 32


def cells(
    backbone: Backbone, given: Given, keys: Sequence[str]
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    for key in keys:
        task, seed = key.split("/")
        yield key, partial(cell, Bench(backbone, given, task, int(seed)))


def cell(bench: Bench) -> dict[str, Any]:
    """Everything about one task and seed."""
    parts = {name: _with_parts(bench, keep) for name, keep in PARTS.items()}
    whole = parts[WHOLE]
    return {
        "task": bench.task,
        "seed": bench.seed,
        "metric": bench.metric.name,
        "judged_on": len(bench.judge.targets),
        "head_alone": bench.score(bench.probe(), bench.judge),
        "parts": {name: bench.score(adapter, bench.judge) for name, adapter in parts.items()},
        "parameters": {name: _trained_numbers(adapter) for name, adapter in parts.items()},
        "layers": _layers(bench, whole),
        "attention_heads": _attention_heads(bench, whole),
        "errors": _errors(bench, whole),
        "vectors": _vectors(whole),
    }


def _with_parts(bench: Bench, keep: Callable[[str], bool]) -> Adapter:
    adapter, hyper = bench.adapter(METHOD)
    return bench.train(frozen(adapter, keep), hyper)


def _trained_numbers(adapter: Adapter) -> int:
    return sum(p.numel() for p in adapter.body_parameters() if p.requires_grad)


def _layers(bench: Bench, adapter: Adapter) -> list[dict[str, Any]]:
    """The score without each layer, and with it alone."""
    switches = switches_of(adapter)
    return [
        {
            "layer": one.layer,
            "off": bench.score(only(adapter, [s for s in switches if s is not one]), bench.judge),
            "alone": bench.score(only(adapter, [one]), bench.judge),
        }
        for one in switches
    ]


def _moved(bench: Bench, adapter: Adapter) -> Floats:
    """|A' - A| / |A| of each judging row, layer and attention head; of several texts in a row, their mean."""
    rows = bench.judge.rows
    found: dict[int, torch.Tensor] = {}
    for batch in state_batches(rows):
        by_tap = changes(adapter, bench.backbone, rows.take(batch))
        stacked = torch.stack([by_tap[tap] for tap in sorted(by_tap, key=lambda tap: tap.layer)], dim=1)
        each = stacked.view(len(batch), rows.per_row, *stacked.shape[1:]).mean(1)  # [b, layers, heads]
        found |= dict(zip(batch, each, strict=True))
    return np.stack([found[row].double().numpy() for row in range(len(rows))])


def _attention_heads(bench: Bench, adapter: Adapter) -> dict[str, Any]:
    """For each layer a number for each head: sizes of w - 1 and b, mean change on the judging rows."""
    of_size = sorted(sizes(adapter, bench.backbone).items(), key=lambda one: one[0].layer)
    return {
        "scale": [[round(v, 5) for v in scale.tolist()] for _, (scale, _) in of_size],
        "shift": [[round(v, 5) for v in shift.tolist()] for _, (_, shift) in of_size],
        "change": _moved(bench, adapter).mean(axis=0).round(5).tolist(),
    }


def _errors(bench: Bench, adapter: Adapter) -> dict[str, Any]:
    """Errors of the head alone and with the adapter; correlation over rows of errors removed and change.

    The change of a row is the mean over attention heads, for each layer and over all layers.
    """
    before, after = bench.errors(bench.probe(), bench.judge), bench.errors(adapter, bench.judge)
    moved, removed = _moved(bench, adapter).mean(axis=2), before - after  # [rows, layers], [rows]
    return {
        "head_alone": float(before.mean()),
        "with_adapter": float(after.mean()),
        "put_right": float((removed > 0).mean()),
        "put_wrong": float((removed < 0).mean()),
        "correlation": correlation(moved.mean(axis=1), removed),
        "correlation_by_layer": [correlation(moved[:, layer], removed) for layer in range(moved.shape[1])],
        "correlation_with_errors_before": correlation(moved.mean(axis=1), before),
    }


def _vectors(adapter: Adapter) -> dict[str, str]:
    """w - 1 and b of all layers one after another, float16 in base64."""
    tensors, found = adapter.to_tensors(), {}
    for part, neutral in NEUTRAL.items():
        own = torch.cat([value for name, value in tensors.items() if name.endswith(f"/{part}")]) - neutral
        found[part] = base64.b64encode(own.half().numpy().tobytes()).decode()
    return found


def vector(record: dict[str, Any], part: str, plus: float = 0.0) -> Floats:
    """w - 1 (`scale`) or b (`shift`) of all layers, one after another, and a number added to each."""
    found = np.frombuffer(base64.b64decode(record["vectors"][part]), dtype=np.float16)
    return found.astype(np.float64) + plus


def cosine(a: Floats, b: Floats) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def parts(found: dict[str, Any]) -> str:
    """The ablation: a row for each part that is trained, a column for each task."""
    tasks = [task for task in TASKS if by_seed(found, task)]
    if not tasks:
        return not_measured()
    cells_of = {task: by_seed(found, task) for task in tasks}
    head = [mean_and_spread([c["head_alone"] for c in cells_of[task]]) for task in tasks]
    rows = [["head alone", "0", *head, _average(cells_of, lambda c: c["head_alone"])]]
    for name in PARTS:
        shown = [mean_and_spread([c["parts"][name] for c in cells_of[task]]) for task in tasks]
        count = f"{cells_of[tasks[0]][0]['parameters'][name]:,}"
        rows.append([name, count, *shown, _average(cells_of, lambda c, name=name: c["parts"][name])])  # type: ignore[misc]
    return tables.table(["trained", "parameters", *tasks, "average"], rows)


def _average(cells_of: dict[str, list[dict[str, Any]]], value: Callable[[dict[str, Any]], float]) -> str:
    return tables.points(statistics.fmean(statistics.fmean(map(value, cells)) for cells in cells_of.values()))


def layers(found: dict[str, Any]) -> str:
    """Points lost without each layer, and gained by it alone over none, mean over tasks and seeds."""
    records = [record for task in TASKS for record in by_seed(found, task)]
    if not records:
        return not_measured()
    rows = []
    for place, one in enumerate(records[0]["layers"]):
        lost = [r["parts"][WHOLE] - r["layers"][place]["off"] for r in records]
        moved = [statistics.fmean(r["attention_heads"]["change"][place]) for r in records]
        scale, shift = (
            [statistics.fmean(r["attention_heads"][name][place]) for r in records]
            for name in ("scale", "shift")
        )
        by_layer = [r["errors"]["correlation_by_layer"][place] for r in records]
        related = [value for value in by_layer if value is not None]
        rows.append(
            [
                str(one["layer"]),
                mean_and_spread(lost),
                mean_and_spread(moved),
                mean_and_spread(scale, 1, 3),
                mean_and_spread(shift, 1, 3),
                mean_and_spread(related, 1, 2),
            ]
        )
    head = ["layer", "points lost without it", "change of the attention output, %"]
    return tables.table([*head, "size of w - 1", "size of b", "change and errors removed"], rows)


def errors(found: dict[str, Any]) -> str:
    """Per task: errors before and after, and the correlation of change and errors removed over rows."""
    rows = []
    for task in TASKS:
        own = [record["errors"] for record in by_seed(found, task)]
        if not own:
            continue
        names = ("head_alone", "with_adapter", "put_right", "put_wrong")
        shares = [mean_and_spread([one[name] for one in own]) for name in names]
        related = [
            mean_and_spread([one[name] for one in own if one[name] is not None], 1, 2)
            for name in ("correlation", "correlation_with_errors_before")
        ]
        rows.append([task, *shares, *related])
    head = ["task", "errors of the head, %", "with the adapter, %", "put right, %", "put wrong, %"]
    head += ["change and errors removed", "change and errors of the head"]
    return tables.table(head, rows) if rows else not_measured()


def cosines(found: dict[str, Any]) -> str:
    """Between tasks with the same seed, and between seeds of one task: mean over all pairs."""
    records = {task: by_seed(found, task) for task in TASKS if by_seed(found, task)}
    if len(records) < 2:
        return not_measured()
    rows = []
    for name, (part, plus) in VECTORS.items():
        made = {task: [vector(r, part, plus) for r in own] for task, own in records.items()}
        tasks = [
            cosine(a, b)
            for one, other in combinations(made.values(), 2)
            for a, b in zip(one, other, strict=False)
        ]
        seeds = [cosine(a, b) for own in made.values() for a, b in combinations(own, 2)]
        shuffled = _by_chance(made)
        rows.append([name, *(mean_and_spread(v, 1, 3) for v in (tasks, seeds, shuffled))])
    head = ["vector", "two tasks, one seed", "one task, two seeds", "two tasks, one of them shuffled"]
    return tables.table(head, rows)


def heads(found: dict[str, Any]) -> str:
    """Change of each attention head's output on the judging rows, mean over tasks and seeds, in percent."""
    records = [record for task in TASKS for record in by_seed(found, task)]
    if not records:
        return not_measured()
    mean = np.mean([record["attention_heads"]["change"] for record in records], axis=0)  # [layers, heads]
    rows = [[str(layer), *(f"{100 * value:.1f}" for value in row)] for layer, row in enumerate(mean)]
    return tables.table(["layer", *(f"head {number}" for number in range(mean.shape[1]))], rows)


def by_layer(found: dict[str, Any]) -> str:
    """Cosines of w - 1 and b layer by layer, over all pairs of tasks with the same seed."""
    own = [records for task in TASKS if (records := by_seed(found, task))]
    if len(own) < 2:
        return not_measured()
    count = len(own[0][0]["layers"])
    pairs_of = [(a, b) for one, other in combinations(own, 2) for a, b in zip(one, other, strict=False)]
    rows = []
    for layer in range(count):
        shown = []
        for part in NEUTRAL:
            cut = [[np.split(vector(r, part), count)[layer] for r in pair] for pair in pairs_of]
            shown.append(mean_and_spread([cosine(a, b) for a, b in cut], 1, 3))
        rows.append([str(layer), *shown])
    return tables.table(["layer", "w - 1", "b"], rows)


def _by_chance(made: dict[str, list[Floats]]) -> list[float]:
    """Cosines of two tasks' vectors when the places of one are shuffled: what has no pattern in common."""
    chooser = np.random.default_rng(0)
    pairs = combinations(made.values(), 2)
    return [
        cosine(a, chooser.permutation(b)) for one, other in pairs for a, b in zip(one, other, strict=False)
    ]


def pairs(found: dict[str, Any], part: str) -> str:
    """The cosines of every two tasks' `scale` (w - 1) or `shift` (b), mean over seeds."""
    made = {
        task: [vector(record, part) for record in by_seed(found, task)]
        for task in TASKS
        if by_seed(found, task)
    }
    if len(made) < 2:
        return not_measured()
    rows = [
        [
            one,
            *(
                f"{statistics.fmean(cosine(a, b) for a, b in zip(own, other, strict=False)):.3f}"
                for other in made.values()
            ),
        ]
        for one, own in made.items()
    ]
    return tables.table(["task", *made], rows)


def answer(found: dict[str, Any]) -> str:
    """Parts against the whole, over tasks and seeds."""
    records = [record for task in TASKS for record in by_seed(found, task)]
    if not records:
        return not_measured()
    whole = [record["parts"][WHOLE] for record in records]
    facts = [("no adapter", difference(list(zip(whole, (r["head_alone"] for r in records), strict=True))))]
    for name in [name for name in PARTS if name != WHOLE]:
        values = [record["parts"][name] for record in records]
        facts.append((f"{name}, trained by itself", difference(list(zip(whole, values, strict=True)))))
    for place, one in enumerate(records[0]["layers"]):
        values = [record["layers"][place]["off"] for record in records]
        facts.append((f"layer {one['layer']} off", difference(list(zip(whole, values, strict=True)))))
    return told(facts)


def report(found: dict[str, Any]) -> str:
    """All tables, one below the other."""
    two = [pairs(found, part) for part in NEUTRAL]
    first = [parts(found), layers(found), heads(found), errors(found), cosines(found), by_layer(found)]
    return "\n\n".join([*first, *two, answer(found)])


def main() -> int:
    return research_pool.main(sys.modules[__name__], __doc__)


if __name__ == "__main__":
    sys.exit(main())
