"""What does it cost that every row of a batch belongs to another task?

Throughput of served batches (pack, forward, pool, heads) whose rows are drawn from N resident Hadamard
adapters, as a ratio to the bare packed backbone (pack, forward, pool) on the same batches in the same run,
both on the fast path (`fast_path` has its ratio to the reference path);
and of the bare packed backbone as a ratio to Hugging Face's own padded forward. Lengths are lognormal,
6 to 128 tokens, as short texts have. The variants take turns, so that a noisy machine treats them alike;
the ratio of each turn is taken, and the median of those is printed.

    python -m benchmarks.mixed_batch [--rounds 20] [--rows 64] [--device cpu]
"""

import random
import sys
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModel

from benchmarks import record, turns
from modeling import READOUTS, Backbone, Encoded, HeadSpec, ServedModel, load_backbone
from modeling.loading import minilm_directory

NAME = "mixed_batch"
BARE, PADDED = "bare packed", "padded (Hugging Face)"
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
    return turns.random_texts(rows, rng, [101], (1000, backbone.config.vocab_size), 102)


def adapters(backbone: Backbone, count: int, methods: tuple[str, ...]) -> ServedModel:
    """A served model with `count` adapters in its slots 1 to `count`."""
    return turns.served(backbone, count, methods, SPECS)[0]


def bare(backbone: Backbone, batch: list[Encoded]) -> None:
    """The packed backbone without banks: forward and mean pooling."""
    packed = backbone.pack(batch)
    with torch.inference_mode(), backbone.running(packed) as hidden:
        READOUTS["pooled"].states(backbone, hidden, packed, "mean").cpu()


def served_bare(served: ServedModel, batch: list[Encoded]) -> None:
    """Rows without adapters on the path that batches take: forward and mean pooling."""
    hidden = served.hidden(batch, [0] * len(batch))
    torch.stack([states.mean(0) for states in hidden])


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


def measure(num_rounds: int, rows: int, device: str) -> dict[str, Any]:
    """Every variant once per round on the same batches; medians of the per-round ratios."""
    rng = random.Random(0)
    names = ("base", "hadamard", *METHOD_SETS)
    backbones = {name: load_backbone("minilm", device=device) for name in names}
    hadamard = adapters(backbones["hadamard"], max(TASKS), ("hadamard",))
    library = AutoModel.from_pretrained(str(minilm_directory())).eval().to(device)
    base = backbones["base"]
    plain = ServedModel(base)
    variants: dict[str, Callable[[list[Encoded]], None]] = {
        BARE: lambda b: served_bare(plain, b),
        PADDED: lambda b: padded(library, b, base.device),
        **{f"{n} tasks": lambda b, n=n: mixed(hadamard, b, n, rng) for n in TASKS},  # type: ignore[misc]  # bound now
    }
    for name, methods in METHOD_SETS.items():
        model = adapters(backbones[name], 64, methods)
        variants[f"64 tasks of {name}"] = lambda b, model=model: mixed(model, b, 64, rng)  # type: ignore[misc]  # bound now
    rounds = [
        [random_batch(base, rows, rng) for _ in range(BATCHES_PER_ROUND)] for _ in range(num_rounds + 1)
    ]
    seconds = turns.take_turns(variants, rounds, rng)
    counted = [len(text) for batches in rounds[1:] for batch in batches for text in batch]
    others = [name for name in variants if name not in (BARE, PADDED)]
    ratios = {f"{name} / {BARE}": turns.ratio(seconds, name, BARE) for name in others}
    return {
        "origin": record.origin(),
        "backbone": "minilm",
        "rounds": num_rounds,
        "rows_per_batch": rows,
        "mean_tokens_per_row": round(sum(counted) / len(counted), 1),
        "resident_bytes_per_hadamard_task": round(hadamard.nbytes / hadamard.num_resident),
        "throughput_ratios": ratios | {f"{BARE} / {PADDED}": turns.ratio(seconds, BARE, PADDED)},
    }


def main() -> int:
    parser = turns.options(__doc__, rounds=20, rows=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default=NAME, help="result file")
    args = parser.parse_args()
    result = measure(args.rounds, args.rows, args.device)
    turns.print_ratios(result)
    print("written:", record.write(args.name, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
