"""How many layers can go: score against the number of layers kept, chosen in three ways, or trained alone.

An adapter of all layers is trained and then loses layers, down to none, without being trained again: those
that moved least first (`drift`, as `trunkline prune` does), those whose loss costs least on one half of the
validation rows (`greedy`), or the lowest first (`last`). Beside that adapters in some layers alone are
trained from the start: the last ones, and for Hadamard those that drift and the greedy search chose. Scores
are of the half that chose nothing.

    python -m benchmarks.research_layers --data ../shared/data --device cuda --workers 16   # resumes
    python -m benchmarks.research_layers --table                                # only print what there is
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from benchmarks import research_pool, tables
from benchmarks.research_bench import Bench, Given
from benchmarks.research_tables import by_seed, difference, mean_and_spread, not_measured, told
from modeling import Adapter, Backbone
from modeling.switches import only, switches_of
from training.file.prune import layer_drifts

NAME = "research_layers"
TASKS = ("trec", "sst2", "cola", "stsb")
PRUNED = ("hadamard", "ln_tuning", "bitfit", "ia3")  # methods with a neutral value to measure drift from
TRAINED = ("lora", "compacter_pp")  # beside them: all layers and the last ones, trained
ORDERS = ("drift", "greedy", "last")
AGAIN = "hadamard"  # whose chosen layers are trained again from the start
OPTIONS: dict[str, dict[str, Any]] = {}
Layers = tuple[int, ...]


def groups(
    given: Given, seeds: Sequence[int], tasks: Sequence[str] | None
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Keys `task/method/seed`, half of the methods of a task and seed together."""
    for seed in seeds:
        for task in tasks or TASKS:
            for methods in ((AGAIN, *TRAINED), PRUNED[1:]):
                trainings = sum(7 if method == AGAIN else 3 for method in methods)
                steps = trainings * given.epochs * given.rows / 32
                yield tuple(f"{task}/{method}/{seed}" for method in methods), steps


def cells(
    backbone: Backbone, given: Given, keys: Sequence[str]
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """All of one task and seed."""
    task, _, seed = keys[0].split("/")
    bench = Bench(backbone, given, task, int(seed))
    for key in keys:
        yield key, partial(cell, bench, key.split("/")[1])


def cell(bench: Bench, method: str) -> dict[str, Any]:
    """One method: the adapter of all layers, with ever fewer of them, and those trained with few alone."""
    adapter = bench.trained(method, **OPTIONS.get(method, {}))
    layers = sorted({switch.layer for switch in switches_of(adapter) if switch.layer is not None})
    kept = tuple(sorted({(len(layers) + 1) // 3, (2 * len(layers) + 2) // 3}))
    found: dict[str, Any] = {
        "task": bench.task,
        "method": method,
        "seed": bench.seed,
        "metric": bench.metric.name,
        "head_alone": bench.score(bench.probe(), bench.judge),
        "judged_on": len(bench.judge.targets),
    }
    orders: dict[str, list[Layers]] = {}
    if method in PRUNED:
        orders = {
            "drift": by_drift(bench, adapter),
            "greedy": by_search(bench, adapter, layers),
            "last": [tuple(layers[-number:]) for number in range(len(layers), 0, -1)],
        }
    found["pruned"] = {name: _scores(bench, adapter, order) for name, order in orders.items()}
    whole = {"by": "all", "number": len(layers), "layers": layers}
    whole |= {"value": bench.score(adapter, bench.judge), "parameters": adapter.num_body_parameters}
    found["alone"] = [whole, *_trained_alone(bench, method, layers, kept, orders)]
    return found


def with_layers(adapter: Adapter, layers: Sequence[int]) -> Adapter:
    """The adapter in some layers alone, with what lies in no layer."""
    return only(adapter, [s for s in switches_of(adapter) if s.layer is None or s.layer in layers])


def by_drift(bench: Bench, adapter: Adapter) -> list[Layers]:
    """What is kept, from all layers to one: those that moved least go first."""
    drifts = [drift.layer for drift in layer_drifts(adapter, bench.backbone)]
    return [tuple(sorted(drifts[:number])) for number in range(len(drifts), 0, -1)]


def by_search(bench: Bench, adapter: Adapter, layers: Sequence[int]) -> list[Layers]:
    """The layer goes without which the score on the choosing half is best; the lowest among equals."""
    kept = tuple(layers)
    found = [kept]
    while len(kept) > 1:
        without = [tuple(other for other in kept if other != layer) for layer in kept]
        scores = [bench.score(with_layers(adapter, one), bench.choose) for one in without]
        kept = without[scores.index(max(scores))]
        found.append(kept)
    return found


def _scores(bench: Bench, adapter: Adapter, order: Sequence[Layers]) -> list[dict[str, Any]]:
    """Of every number of layers, none among them: the head that was trained with the adapter stands alone."""
    return [
        {"layers": list(kept), "value": bench.score(with_layers(adapter, kept), bench.judge)}
        for kept in [*order, ()]
    ]


def _trained_alone(
    bench: Bench, method: str, layers: Sequence[int], kept: Sequence[int], orders: dict[str, list[Layers]]
) -> list[dict[str, Any]]:
    """Few layers, trained from the start."""
    chosen: dict[tuple[str, int], Layers] = {}
    for number in kept:
        chosen["last", number] = tuple(layers[-number:])
        if method == AGAIN:
            chosen |= {(name, number): orders[name][len(layers) - number] for name in ("drift", "greedy")}
    found = []
    for (by, number), own in chosen.items():
        made = bench.trained(method, **OPTIONS.get(method, {}), layers=list(own))
        value, size = bench.score(made, bench.judge), made.num_body_parameters
        found.append({"by": by, "number": number, "layers": list(own), "value": value, "parameters": size})
    return found


def frontier(found: dict[str, Any], method: str = AGAIN) -> str:
    """A row for each number of layers and order; a column for each task: mean and spread over seeds."""
    cells_of = {task: by_seed(found, f"{task}/{method}") for task in TASKS}
    tasks = [task for task in TASKS if cells_of[task]]
    if not tasks:
        return not_measured()
    rows = []
    most = len(cells_of[tasks[0]][0]["pruned"][ORDERS[0]]) - 1
    for place in range(most + 1):
        for order in ORDERS if 0 < place < most else ORDERS[:1]:
            values = [[c["pruned"][order][place]["value"] for c in cells_of[task]] for task in tasks]
            name = order if 0 < place < most else "all" if place == 0 else "none"
            rows.append([str(most - place), name, *(mean_and_spread(v) for v in values), _average(values)])
    return tables.table(["layers", "kept by", *tasks, "average"], rows, num_names=2)


def alone(found: dict[str, Any]) -> str:
    """Trained from the start in some layers alone: a row for each method, number and choice."""
    methods = [*PRUNED, *TRAINED]
    rows = []
    tasks = [task for task in TASKS if any(by_seed(found, f"{task}/{m}") for m in methods)]
    for method in methods:
        cells_of = {task: by_seed(found, f"{task}/{method}") for task in tasks}
        if not (tasks and all(cells_of.values())):
            continue
        for place, one in enumerate(cells_of[tasks[0]][0]["alone"]):
            values = [[c["alone"][place]["value"] for c in cells_of[task]] for task in tasks]
            shown = [mean_and_spread(v) for v in values]
            name = [f"`{method}`", f"{one['number']}, {one['by']}", f"{one['parameters']:,}"]
            rows.append([*name, *shown, _average(values)])
    head = ["method", "layers", "parameters", *tasks, "average"]
    return tables.table(head, rows, num_names=2) if rows else not_measured()


def agreement(found: dict[str, Any]) -> str:
    """Which layers stay when a third of them is kept, how often over tasks and seeds, by each order."""
    rows = []
    for method in PRUNED:
        cells_of = [c for task in TASKS for c in by_seed(found, f"{task}/{method}")]
        for order in ORDERS[:2] if cells_of else ():
            total = len(cells_of[0]["pruned"][order]) - 1
            kept = [set(c["pruned"][order][total - (total + 1) // 3]["layers"]) for c in cells_of]
            shares = [sum(layer in one for one in kept) / len(kept) for layer in range(total)]
            rows.append([f"`{method}`", order, *(f"{100 * share:.0f} %" for share in shares)])
    if not rows:
        return not_measured()
    width = max(map(len, rows))
    head = ["method", "kept by", *(f"layer {number}" for number in range(width - 2))]
    return tables.table(head, [[*row, *[""] * (width - len(row))] for row in rows], num_names=2)


def answer(found: dict[str, Any]) -> str:
    """Against all layers, over tasks and seeds: pruned in each order, and trained in few layers alone."""
    facts = []
    for method in (*PRUNED, *TRAINED):
        cells_of = [c for task in TASKS for c in by_seed(found, f"{task}/{method}")]
        for place, one in enumerate(cells_of[0]["alone"]) if cells_of else ():
            if place == 0:
                continue
            number, most = one["number"], cells_of[0]["alone"][0]["number"]
            how = difference([(c["alone"][0]["value"], c["alone"][place]["value"]) for c in cells_of])
            facts.append((f"`{method}`, {number} of {most} layers ({one['by']}) trained alone", how))
            if one["by"] in cells_of[0]["pruned"] and method in PRUNED:
                orders = [one["by"]] if method == AGAIN else list(ORDERS)
                facts += [_pruned(cells_of, method, order, most, number) for order in orders]
    return told(facts)


def _pruned(
    cells_of: Sequence[dict[str, Any]], method: str, order: str, most: int, number: int
) -> tuple[str, str]:
    pairs = [(c["pruned"][order][0]["value"], c["pruned"][order][most - number]["value"]) for c in cells_of]
    return f"`{method}`, pruned to {number} of {most} layers by {order}", difference(pairs)


def _average(values: Sequence[Sequence[float]]) -> str:
    """Over the tasks, of their means over seeds."""
    return tables.points(sum(sum(v) / len(v) for v in values) / len(values))


def report(found: dict[str, Any]) -> str:
    """All tables, one below the other."""
    parts = [f"{method}\n{frontier(found, method)}" for method in PRUNED]
    return "\n\n".join([*parts, alone(found), agreement(found), answer(found)])


def main() -> int:
    return research_pool.main(sys.modules[__name__], __doc__)


if __name__ == "__main__":
    sys.exit(main())
