"""What does it cost to ask many tasks of one text, where they act on the last layers alone?

Answers a second of batches in which each text is read by 20 Hadamard tasks on the last third of the layers,
over those of batches of as many tokens whose texts all differ, each read by one of the tasks (singles that
fill every pass); per token, as if all texts were equally long. Besides: what a batch gains that has the same
questions twice, as two requests may ask them, and what looking for equal texts costs where there are none.
Batches take turns; the median of the turns' ratios counts. Measured is processor time on one thread, so that
others on the machine count little.

    python -m benchmarks.fan_out [--rounds 15] [--tasks 20] [--tokens 1024]
"""

import random
import sys
import time
from collections.abc import Sequence
from typing import Any
from unittest import mock

import torch

from benchmarks import others, record, turns
from modeling import METHODS, Adapter, Encoded, HeadSpec, ServedModel, load_backbone, served

NAME = "fan_out"
SPEC = HeadSpec("single_label", ("no", "yes"))
Rows = list[tuple[Encoded, int]]


def model_with(tasks: int) -> tuple[ServedModel, list[int]]:
    """Hadamard tasks on the last third of the layers, and their slots."""
    backbone = load_backbone("minilm")
    model, slots, num = ServedModel(backbone), [], len(backbone.layers)
    last = list(range(num - num // 3, num))
    for seed in range(tasks):
        adapter = Adapter.create(backbone, METHODS["hadamard"].from_config({"layers": last}), SPEC, seed=seed)
        with torch.no_grad():
            for parameter in adapter.body_parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        slots.append(model.install(adapter.pack()))
    return model, slots


def batches(texts: Sequence[Encoded], slots: Sequence[int], max_tokens: int) -> dict[str, Rows]:
    """Batches of at most so many tokens, as the scheduler would fill them."""
    rng = random.Random(len(texts))
    fan = [(text, slot) for text in texts for slot in slots]
    singles = [(text, rng.choice(slots)) for text in texts]
    found = {"fan_out": _filled(fan, max_tokens), "singles": _filled(singles, max_tokens)}
    half = _filled(singles, max_tokens // 2)
    return found | {"asked_twice": [*half, *half]}


def _filled(rows: Rows, max_tokens: int) -> Rows:
    taken, num_tokens = [], 0
    for text, slot in rows:
        num_tokens += len(text)
        if num_tokens > max_tokens:
            break
        taken.append((text, slot))
    return taken


def run(model: ServedModel, rows: Rows) -> None:
    texts, slots = [text for text, _ in rows], [slot for _, slot in rows]
    model.run(texts, slots, list(enumerate(slots)))


def unshared(model: ServedModel, rows: Rows) -> None:
    """As before: every row computes all layers."""
    every = list(range(len(rows)))
    with (
        mock.patch.object(served, "distinct", return_value=(every, every)),
        mock.patch.object(served, "streams_of", return_value=None),
    ):
        run(model, rows)


def measure(rounds: int, tasks: int, max_tokens: int) -> dict[str, Any]:
    """Seconds for each token that is answered, by variant and turn, and their ratios."""
    torch.set_num_threads(1)
    model, slots = model_with(tasks)
    rng, vocabulary = random.Random(0), (1000, model.backbone.config.vocab_size)
    ways = {"shared": run, "unshared": unshared}
    seconds: turns.Seconds = {}
    with others.watched() as found:
        for turn in range(rounds + 1):
            made = batches(turns.random_texts(200, rng, [101], vocabulary, 102), slots, max_tokens)
            variants = [(f"{name}, {way}", rows, ways[way]) for name, rows in made.items() for way in ways]
            for name, rows, way in rng.sample(variants, len(variants)):
                tokens = sum(len(text) for text, _ in rows)
                started_s = time.process_time()
                way(model, rows)
                if turn:  # the first warms up
                    seconds.setdefault(name, []).append((time.process_time() - started_s) / tokens)
    ratios = {
        f"{tasks} tasks of each text / singles": ("fan_out, shared", "singles, shared"),
        f"{tasks} tasks of each text / singles, nothing shared": ("fan_out, unshared", "singles, unshared"),
        "every question twice / once": ("asked_twice, shared", "singles, shared"),
        "singles, equal texts looked for / not": ("singles, shared", "singles, unshared"),
    }
    return {
        "origin": record.origin(),
        "backbone": "minilm",
        "rounds": rounds,
        "tasks": tasks,
        "max_tokens": max_tokens,
        **found.told(),
        "throughput_ratios": {key: turns.ratio(seconds, *pair) for key, pair in ratios.items()},
    }


def main() -> int:
    parser = turns.options(__doc__, rounds=15, rows=0)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=1024, help="of a batch")
    args = parser.parse_args()
    result = measure(args.rounds, args.tasks, args.tokens)
    turns.print_ratios(result)
    print({name: result[name] for name in ("others_busy_cores", "disturbed")})
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
