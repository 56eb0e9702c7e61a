"""Is it faster to train several adapters in one pass than one after the other?

K learners train on random rows, each on its own batches of `--rows` rows, for `--steps` steps: side by side
(one forward and one backward pass for all), and one after the other. Both take turns in one process; the
ratio of each turn is taken. Above 1: together is faster. Losses are compared, so that both did the same work.

    python -m benchmarks.learners_together                        # this processor
    python -m benchmarks.learners_together --device cuda --rows 8 --rows 32 --learners 2 --learners 8
    python -m benchmarks.learners_together --table                # only print what there is
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks import random_task, record, tables, turns
from modeling import Backbone, load_backbone
from training.loop.fit import StagePlan, StageResult, fit
from training.loop.journal import NoJournal
from training.loop.precision import chosen, products_of
from training.loop.progress import NullProgress
from training.loop.stages import Material, adapter_learner
from training.loop.together import Member, Outcome, fit_together

NAME = "learners_together"
CASES = {
    "hadamard, seeds": ("hadamard",),
    "compacter, seeds": ("compacter",),
    "lora, seeds": ("lora",),
    "four methods": ("hadamard", "compacter", "lora", "bitfit"),
}
TOGETHER, ALONE = "together", "one after the other"


def members(material: Material, methods: Sequence[str], count: int, rows: int, rounded: bool) -> list[Member]:
    """Learners of these methods in turn, each with a seed of its own; one epoch."""
    backbone, hyper = material.backbone, random_task.settings(rows)
    products = products_of("bfloat16" if rounded else "float32", backbone.model, backbone.device)
    made = []
    for seed in range(count):
        adapter = random_task.adapter_on(material, methods[seed % len(methods)], seed)
        learner = adapter_learner(material, adapter, hyper, seed, products=products)
        plan = StagePlan("adapter", 1, 0.1)
        made.append(Member(plan=plan, learner=learner, material=material, adapter=adapter))
    return made


def train_together(found: Sequence[Member], rounded: bool) -> list[Outcome]:
    backbone = found[0].material.backbone
    precision = "bfloat16" if rounded else "float32"
    return fit_together(found, products_of(precision, backbone.model, backbone.device))


def train_alone(found: Sequence[Member]) -> list[Outcome]:
    results: list[Outcome] = []
    for member in found:
        with member.adapter.attached(member.material.backbone):
            results.append(fit(member.plan, member.learner, NullProgress(), NoJournal()))
    return results


def measure(
    backbone: Backbone, methods: Sequence[str], count: int, rows: int, steps: int, rounds: int
) -> dict[str, Any]:
    """Ratios of one case, the first round apart."""
    material = random_task.material_on(backbone, rows * steps)
    rounded = chosen("auto", backbone.device) == "bfloat16"
    losses: dict[str, list[Outcome]] = {}

    def of(name: str, run: Callable[[Sequence[Member]], list[Outcome]]) -> Callable[[Any], None]:
        def timed(found: Sequence[Member]) -> None:
            losses[name] = run(found)

        return timed

    seconds: turns.Seconds = {TOGETHER: [], ALONE: []}
    runs = {TOGETHER: of(TOGETHER, lambda m: train_together(m, rounded)), ALONE: of(ALONE, train_alone)}
    rng = random.Random(0)
    for _ in range(rounds + 1):
        for name in sorted(runs, key=lambda _: rng.random()):
            found = members(material, methods, count, rows, rounded)
            start = clock(backbone)
            runs[name](found)
            seconds[name].append(clock(backbone) - start)
    kept = {name: spent[1:] for name, spent in seconds.items()}
    return {
        "ratio": turns.ratio(kept, TOGETHER, ALONE),
        "seconds_per_step_of_all": {n: round(statistics.median(s) / steps, 5) for n, s in kept.items()},
        "largest_difference_of_losses": _difference(losses[TOGETHER], losses[ALONE]),
        "learners": count,
        "rows": rows,
        "steps": steps,
        "products": "bfloat16" if rounded else "float32",
    }


def clock(backbone: Backbone) -> float:
    """The processor's time of this process, or the clock's when the device has done all that was asked."""
    if backbone.device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _difference(one: Sequence[Outcome], other: Sequence[Outcome]) -> float:
    """Between the train losses of the same learner."""
    pairs = [
        (a.history[-1].loss, b.history[-1].loss)
        for a, b in zip(one, other, strict=True)
        if isinstance(a, StageResult) and isinstance(b, StageResult)
    ]
    return max(abs(a - b) for a, b in pairs if a is not None and b is not None)


def table(results: dict[str, Any]) -> str:
    head = ("learners", "device", "K", "rows each", "together, times as fast", "quartiles")
    rows = []
    for key, found in sorted(results.items()):
        ratio = found["ratio"]
        where = found["origin"]["gpu"] if "cuda" in key else "CPU, one thread"
        values = [str(found["learners"]), str(found["rows"]), f"{ratio['median']:.2f}"]
        rows.append([found["case"], where, *values, f"{ratio['q1']:.2f} to {ratio['q3']:.2f}"])
    return tables.table(head, rows, num_names=2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", action="append", choices=CASES, help="only these learners")
    parser.add_argument("--learners", action="append", type=int, help="K (2, 4 and 8)")
    parser.add_argument("--rows", action="append", type=int, help="rows of each learner's batch (8 and 32)")
    parser.add_argument("--steps", type=int, default=8, help="steps of a learner in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="measure nothing, print the table")
    args = parser.parse_args()
    if not args.table:
        backbone = load_backbone("minilm", device=args.device)
        for case in args.case or CASES:
            for count in args.learners or (2, 4, 8):
                for rows in args.rows or (8, 32):
                    found = measure(backbone, CASES[case], count, rows, args.steps, args.rounds)
                    key = f"{args.device.split(':')[0]}/{case}/{count}x{rows}"
                    record.add(NAME, key, {"case": case, "origin": record.origin(), **found})
                    print(key, found["ratio"], found["largest_difference_of_losses"], flush=True)
    print(table(record.read(NAME)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
