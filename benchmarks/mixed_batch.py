"""What does it cost that every row of a batch belongs to another task?

Throughput of served batches (pack, forward, pool, heads) whose rows are drawn from N resident Hadamard
adapters, as a ratio to the bare packed backbone (pack, forward, pool) on the same batches in the same run;
and of the bare packed backbone as a ratio to Hugging Face's own padded forward. Lengths are lognormal,
6 to 128 tokens, as short texts have. The variants take turns, so that a noisy machine treats them alike;
the ratio of each turn is taken, and the median of those is printed.

    python -m benchmarks.mixed_batch [--rounds 20] [--rows 64] [--device cpu]
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModel

from benchmarks import record
from modeling import METHODS, READOUTS, Adapter, Backbone, Encoded, HeadSpec, ServedModel, load_backbone
from modeling.loading import minilm_directory

NAME = "mixed_batch"
TASKS = (1, 64, 1024)
# 64 tasks at a time of one method, of those whose parameters are vectors, and of all that keep the row's
# length (a prompt of 100 tokens is work for the backbone, not for the mixing).
METHOD_SETS = {
    "vector methods": ("hadamard", "bitfit", "ia3", "ln_tuning", "linear_probe"),
    "lora": ("lora",),
    "compacter": ("compacter",),
    "houlsby": ("houlsby",),
    "every method": (
        *("hadamard", "bitfit", "ia3", "ln_tuning", "linear_probe", "lora", "houlsby", "pfeiffer"),
        *("adapter_drop", "low_rank_adapter", "phm", "compacter", "compacter_pp"),
    ),
}
BATCHES_PER_ROUND = 4
SPECS = (
    HeadSpec("single_label", ("no", "yes")),
    HeadSpec("single_label", tuple(f"c{i}" for i in range(20))),
    HeadSpec("regression", ("value",)),
    HeadSpec("multi_label", tuple(f"t{i}" for i in range(8))),
)


def random_batch(backbone: Backbone, rows: int, rng: random.Random) -> list[Encoded]:
    """Sequences of lognormal length (median 20 tokens) with random ids."""
    batch = []
    for _ in range(rows):
        length = min(128, max(6, round(rng.lognormvariate(math.log(20), 0.8))))
        ids = [101, *(rng.randrange(1000, backbone.config.vocab_size) for _ in range(length - 2)), 102]
        batch.append(Encoded(ids, [0] * length, length, truncated=False))
    return batch


def adapters(backbone: Backbone, count: int, methods: tuple[str, ...]) -> ServedModel:
    """A served model with `count` adapters, methods and heads in turn, every parameter moved a little."""
    served = ServedModel(backbone)
    for i in range(count):
        method = METHODS[methods[i % len(methods)]].from_config({})
        adapter = Adapter.create(backbone, method, SPECS[i % len(SPECS)], seed=i)
        with torch.no_grad():
            for parameter in adapter.body_parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        served.install(adapter.pack())
    return served


def bare(backbone: Backbone, batch: list[Encoded]) -> None:
    """The packed backbone without banks: forward and mean pooling."""
    packed = backbone.pack(batch)
    with torch.inference_mode(), backbone.running(packed) as hidden:
        READOUTS["pooled"].states(backbone, hidden, packed, "mean").cpu()


def padded(model: Any, batch: list[Encoded], device: torch.device) -> None:
    """Hugging Face's own forward on one padded batch, with masked mean pooling."""
    longest = max(map(len, batch))
    ids = torch.tensor([e.ids + [0] * (longest - len(e)) for e in batch], device=device)
    mask = torch.tensor([[1] * len(e) + [0] * (longest - len(e)) for e in batch], device=device)
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        ((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).cpu()


def mixed(served: ServedModel, batch: list[Encoded], tasks: int, rng: random.Random) -> None:
    """One served batch whose rows are drawn from the first `tasks` slots, without repeats if that can be."""
    slots = list(range(1, tasks + 1))
    chosen = rng.sample(slots, len(batch)) if tasks >= len(batch) else rng.choices(slots, k=len(batch))
    served.run(batch, [served.placement(s).body_slot for s in chosen], list(enumerate(chosen)))


def timed(run: Callable[[list[Encoded]], None], batches: list[list[Encoded]]) -> float:
    """Seconds for all batches."""
    start = time.perf_counter()
    for batch in batches:
        run(batch)
    return time.perf_counter() - start


def measure(rounds: int, rows: int, device: str) -> dict[str, Any]:
    """Every variant once per round on the same batches; medians of the per-round ratios."""
    rng = random.Random(0)
    names = ("base", "hadamard", *METHOD_SETS)
    backbones = {name: load_backbone("minilm", device=device) for name in names}
    hadamard = adapters(backbones["hadamard"], max(TASKS), ("hadamard",))
    by_set = {name: adapters(backbones[name], 64, methods) for name, methods in METHOD_SETS.items()}
    library = AutoModel.from_pretrained(str(minilm_directory())).eval().to(device)
    base = backbones["base"]
    variants: dict[str, Callable[[list[Encoded]], None]] = {
        "bare packed": lambda b: bare(base, b),
        "padded (Hugging Face)": lambda b: padded(library, b, base.device),
        **{f"{n} tasks": lambda b, n=n: mixed(hadamard, b, n, rng) for n in TASKS},  # type: ignore[misc]  # bound now
        **{
            f"64 tasks of {name}": lambda b, served=served: mixed(served, b, 64, rng)  # type: ignore[misc]  # bound now
            for name, served in by_set.items()
        },
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    tokens = 0
    for round_ in range(rounds + 1):
        batches = [random_batch(base, rows, rng) for _ in range(BATCHES_PER_ROUND)]
        for name in sorted(variants, key=lambda _: rng.random()):
            spent = timed(variants[name], batches)
            if round_ > 0:  # the first round warms up
                seconds[name].append(spent)
        tokens += sum(len(e) for b in batches for e in b) if round_ else 0
    return _summary(seconds, tokens, rounds, rows, hadamard)


def _summary(
    seconds: dict[str, list[float]], tokens: int, rounds: int, rows: int, served: ServedModel
) -> dict[str, Any]:
    def ratio(name: str, base: str) -> dict[str, float]:
        values = [b / s for s, b in zip(seconds[name], seconds[base], strict=True)]
        low, _, high = statistics.quantiles(values, n=4)
        return {"median": round(statistics.median(values), 3), "q1": round(low, 3), "q3": round(high, 3)}

    ratios = {
        f"{name} / bare packed": ratio(name, "bare packed")
        for name in seconds
        if name not in ("bare packed", "padded (Hugging Face)")
    }
    ratios["bare packed / padded (Hugging Face)"] = ratio("bare packed", "padded (Hugging Face)")
    return {
        "origin": record.origin(),
        "backbone": "minilm",
        "rounds": rounds,
        "rows_per_batch": rows,
        "mean_tokens_per_row": round(tokens / (rounds * rows * BATCHES_PER_ROUND), 1),
        "resident_bytes_per_hadamard_task": round(served.nbytes / served.num_resident),
        "throughput_ratios": ratios,
    }


def main() -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=64, help="rows per batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default=NAME, help="result file")
    args = parser.parse_args()
    result = measure(args.rounds, args.rows, args.device)
    print(f"{'throughput of A / B':48} median   (quartiles)")
    for name, value in result["throughput_ratios"].items():
        print(f"{name:48} {value['median']:6.3f}   ({value['q1']:.3f} to {value['q3']:.3f})")
    print("written:", record.write(args.name, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
