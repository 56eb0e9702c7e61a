"""What does a resident task cost of the host's memory, and what do ten thousand of them cost a batch?

Memory: for each method a process of its own makes so many tasks resident; how much it grew by each, over the
bytes of a task's own tensors (body and head in float32, as in its file), in parts: rows of banks, of heads,
and what is left (indices, Python's objects, spare memory of the allocator). Methods whose tasks would not fit
into `--max-gib` are left out at that number. `service`: the same of the whole service with Hadamard tasks,
with their manifests, over one with a single task. Throughput: 64 rows of one task where it alone is resident,
and of 64 tasks drawn from all residents, over rows without adapters; turns, medians of the turns' ratios.

    python -m benchmarks.residency [--tasks 1000 10000] [--method hadamard] [--rounds 12] [--service 1000]
"""

import argparse
import gc
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import hot_load, others, record, turns
from benchmarks.mixed_batch import mixed, random_batch, served_bare
from benchmarks.tasks_on_disk import SPEC, Files, fill
from modeling import METHODS, Adapter, Backbone, Encoded, ServedModel, load_backbone
from modeling.adapter import PackedAdapter
from modeling.allocator import give_freed_memory_back, keep_freed_memory

NAME = "residency"
GOAL = 1.2
"""Bytes of the host a task, over its own."""
ROWS = 64
NUM_BODIES = 4
AT_ONCE = 100
THROUGHPUT = ("hadamard", "compacter")


def adapters(backbone: Backbone, method: str) -> list[tuple[PackedAdapter, int]]:
    """A few tasks of a method, as they are installed, and the bytes of their tensors."""
    made = []
    for seed in range(NUM_BODIES):
        adapter = Adapter.create(backbone, METHODS[method].from_config({}), SPEC, seed=seed)
        own = sum(tensor.nbytes for tensor in adapter.to_tensors().values())
        made.append((adapter.pack(), own))
    return made


def install(model: ServedModel, bodies: Sequence[PackedAdapter], count: int) -> None:
    """So many more residents."""
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(count, start + AT_ONCE))
        model.install_all([bodies[number % len(bodies)] for number in numbers])


def memory(backbone: Backbone, method: str, count: int) -> dict[str, float]:
    """Bytes a task of this process, which has no other residents."""
    made = adapters(backbone, method)
    bodies, own = [packed for packed, _ in made], made[0][1]
    model = ServedModel(backbone)
    install(model, bodies, 1)
    rng = random.Random(0)
    mixed(model, random_batch(backbone, ROWS, rng), 1, rng)  # what a pass keeps is no task's
    gc.collect()
    give_freed_memory_back()
    before = hot_load.memory_bytes(os.getpid())
    install(model, bodies, count)
    gc.collect()
    give_freed_memory_back()  # as the service does when it has loaded its tasks
    grown = (hot_load.memory_bytes(os.getpid()) - before) / count
    banks, heads = (part / model.num_resident for part in _parts(model))
    return {
        "own_bytes": own,
        "host_bytes": round(grown),
        "bank_bytes": round(banks),
        "head_bytes": round(heads),
        "other_bytes": round(grown - banks - heads),
        "host_over_own": round(grown / own, 3),
        "banks_and_heads_over_own": round((banks + heads) / own, 3),
    }


def _parts(model: ServedModel) -> tuple[int, int]:
    """Bytes of banks and of heads."""
    heads = model._heads.nbytes
    return model.nbytes - heads, heads


def in_a_process(method: str, count: int) -> dict[str, float]:
    """`memory` in a process of its own: what it frees, an allocator may keep."""
    command = [sys.executable, "-m", "benchmarks.residency", "--one", method, "--tasks", str(count)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        raise RuntimeError(f"{method}, {count} tasks: {told.stderr[-2000:]}")
    found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return found


def memories(methods: Sequence[str], counts: Sequence[int], max_gib: float) -> dict[str, dict[str, float]]:
    """By method and number of tasks, those that fit."""
    backbone, found = load_backbone("minilm"), {}
    for method in methods:
        packed, own = adapters(backbone, method)[0]
        if packed.weights is not None:
            print(f"{method}: left out, its weights are the whole backbone's and in no bank")
            continue
        for count in counts:
            if 1.5 * own * count > max_gib * 2**30:
                print(f"{method}, {count:,} tasks: left out, {own * count / 2**30:.1f} GiB of tensors")
                continue
            key = f"{method}, {count} tasks"
            found[key] = in_a_process(method, count)
            print(key, json.dumps(found[key]), flush=True)
    return found


def service(count: int) -> dict[str, float]:
    """Bytes a Hadamard task of a whole service, over one that has a single task."""
    files, taken = Files(load_backbone("minilm")), {}
    own = adapters(load_backbone("minilm"), "hadamard")[0][1]
    folder = Path(tempfile.mkdtemp())
    try:
        for number in (1, count):
            store = folder / str(number) / "store"
            store.parent.mkdir()
            fill(store, files, number)
            with hot_load.server(hot_load.HERE, store) as (_, _, process):
                taken[number] = hot_load.memory_bytes(process)
    finally:
        shutil.rmtree(folder)
    grown = (taken[count] - taken[1]) / (count - 1)
    return {"own_bytes": own, "host_bytes": round(grown), "host_over_own": round(grown / own, 3)}


def throughput(method: str, count: int, num_rounds: int, batches_per_round: int = 4) -> dict[str, Any]:
    """Ratios of rows under one resident, and under 64 of many, to rows without adapters."""
    rng, variants = random.Random(0), dict[str, Callable[[list[Encoded]], object]]()
    names = {tasks: f"{method}, 64 rows with {tasks} resident" for tasks in (1, count)}
    for tasks, name in names.items():
        backbone = load_backbone("minilm")
        model = ServedModel(backbone)
        install(model, [packed for packed, _ in adapters(backbone, method)], tasks)
        variants[name] = lambda b, model=model, tasks=tasks: mixed(model, b, tasks, rng)  # type: ignore[misc]  # bound now
    plain = ServedModel(load_backbone("minilm"))
    variants["bare"] = lambda b: served_bare(plain, b)
    rounds = [
        [random_batch(plain.backbone, ROWS, rng) for _ in range(batches_per_round)]
        for _ in range(num_rounds + 1)
    ]
    seconds = turns.take_turns(variants, rounds, rng)
    ratios = {f"{name} / bare": turns.ratio(seconds, name, "bare") for name in names.values()}
    ratios[f"{names[count]} / {names[1]}"] = turns.ratio(seconds, names[count], names[1])
    return ratios


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Throughput first: only that is disturbed by others."""
    ratios, cores = {}, []
    for method in args.throughput:
        with others.watched() as seen:
            ratios.update(throughput(method, max(args.tasks), args.rounds))
        cores.append(seen.cores)
    found = memories(args.method or list(METHODS), args.tasks, args.max_gib)
    if args.service:
        found[f"service, hadamard, {args.service} tasks"] = service(args.service)
    worst = statistics.fmean(cores) if cores else 0.0
    return {
        "origin": record.origin(),
        "rounds": args.rounds,
        "goal": GOAL,
        "memory": found,
        "others_busy_cores": round(worst, 2),
        "disturbed": worst > others.DISTURBED_CORES,
        "throughput_ratios": ratios,
    }


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--method", action="append", choices=METHODS, help="only these")
    parser.add_argument("--throughput", nargs="*", default=list(THROUGHPUT), help="methods of batches")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--max-gib", type=float, default=4.0, help="of tensors with their spare rows")
    parser.add_argument("--service", type=int, default=1000, help="tasks of the whole service; 0: none")
    parser.add_argument("--one", choices=METHODS, help="print the memory of one method and write nothing")
    return parser


def main() -> int:
    args = options().parse_args()
    if args.one:
        keep_freed_memory()
        print(json.dumps(memory(load_backbone("minilm"), args.one, args.tasks[0])))
        return 0
    result = measure(args)
    turns.print_ratios(result)
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
