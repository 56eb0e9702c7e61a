"""What does a training step cost, beside full fine-tuning? As in Compacter's Table 3.

Every method trains T5 of a published shape with random weights on the same random rows: encoder texts of
`--tokens` tokens and targets of two (a digit and the end), cross-entropy, clipping, AdamW with its state, in
float32 and without dropout. Full fine-tuning trains the model in place, without a second copy.

Memory: the most bytes that are alive at once in a step (weights, optimiser state, gradients, activations), in
a fresh process for each method, after a step that created the state. On a CPU the allocations that the
profiler reports are added up, so neither the allocator's slack nor the libraries count; on a GPU it is the
device allocator's own peak. Time: all methods take turns in one process, step by step; the median of the
ratios to full fine-tuning of the same turn. On a CPU it is the processor's time of one thread, which other
programs disturb less than the clock's.

    python -m benchmarks.training_cost                                       # T5-small's shape on the CPU
    python -m benchmarks.training_cost --shape t5-base --device cuda --rows 64
    python -m benchmarks.training_cost --table                               # only print what there is
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models
from torch import nn
from transformers import AutoModelForSeq2SeqLM

from benchmarks import record, tables, turns
from modeling import METHODS as REGISTERED
from modeling import Adapter, Backbone, Encoded, HeadSpec, decoding
from modeling.counts import architecture

NAME = "training_cost"
FULL = "full"
METHODS = (
    FULL,
    "compacter_pp",
    "compacter",
    "phm",
    "houlsby",
    "pfeiffer",
    "adapter_drop",
    "low_rank_adapter",
    "prompt_tuning",
    "bitfit",
    "hadamard",
    "ia3",
    "lora",
    "ln_tuning",
    "intrinsic_said",
)
# (memory, time) relative to full fine-tuning in percent; the paper's other rows are not legible to us
PAPER: dict[str, tuple[float, float]] = {
    FULL: (0.0, 0.0),
    "compacter_pp": (-41.9, -26.5),
    "bitfit": (-64.2, -35.1),
}
TARGET = [3, 1]  # a label and the end of the sequence
LR = 1e-4


@dataclass(frozen=True)
class Shape:
    """What is measured: a named architecture and the size of a batch."""

    name: str
    rows: int
    tokens: int
    device: str

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.name}/{self.device}/{self.rows}x{self.tokens}"


class Trainee:
    """One method in training on a backbone: `step()` is one whole step of the optimiser."""

    def __init__(self, shape: Shape, method: str, backbone: Backbone) -> None:
        self.backbone, self.batch = backbone, _batch(shape)
        self.adapter = None
        if method == FULL:
            backbone.model.requires_grad_(True)
            self.parameters: list[nn.Parameter] = list(backbone.model.parameters())
        else:
            spec = HeadSpec("text_to_text", ("0", "1"), pooling="none")
            self.adapter = Adapter.create(backbone, REGISTERED[method].from_config({}), spec)
            self.parameters = self.adapter.body_parameters()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LR, weight_decay=0.0)
        self.count = sum(p.numel() for p in self.parameters)

    def step(self) -> None:
        """Forward, backward, clipping, update."""
        with nullcontext() if self.adapter is None else self.adapter.attached(self.backbone):
            virtual = 0 if self.adapter is None else self.adapter.virtual_tokens
            packed = self.backbone.pack(self.batch, virtual)
            loss = decoding.target_loss(self.backbone, packed, [TARGET] * len(self.batch))
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own, without types
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


def _batch(shape: Shape) -> list[Encoded]:
    rng = random.Random(0)
    texts = [[rng.randrange(3, 30_000) for _ in range(shape.tokens - 1)] + [1] for _ in range(shape.rows)]
    return [Encoded(ids, [0] * len(ids), len(ids), truncated=False) for ids in texts]


def new_backbone(shape: Shape) -> Backbone:
    """Random weights of the named architecture; it needs no tokenizer, so it has an empty one."""
    torch.manual_seed(0)
    config = architecture(shape.name)
    config.decoder_start_token_id = 0
    model = AutoModelForSeq2SeqLM.from_config(config).to(shape.device)
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}))
    return Backbone(shape.name, model, config, tokenizer, torch.float32)


def peak_bytes(shape: Shape, method: str) -> dict[str, int]:
    """Most bytes alive during a later step, and how many parameters were trained. For a fresh process."""
    if shape.device.startswith("cuda"):
        trainee = Trainee(shape, method, new_backbone(shape))
        for _ in range(2):
            trainee.step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        trainee.step()
        return {"peak": torch.cuda.max_memory_allocated(), "parameters": trainee.count}
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        trainee = Trainee(shape, method, new_backbone(shape))
        trainee.step()
        with record_function("measured"):
            trainee.step()
    return {"peak": _peak(watched), "parameters": trainee.count}


def _peak(watched: Any) -> int:
    """The largest sum of allocations minus releases since the start, while the measured step ran."""
    events = watched.profiler.kineto_results.events()
    start = next(e.start_ns() for e in events if e.name() == "measured")
    alive = most = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        alive += event.nbytes()
        if event.start_ns() >= start:
            most = max(most, alive)
    return most


def _peak_in_a_process(shape: Shape, method: str) -> dict[str, int]:
    """`peak_bytes` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training_cost", "--one", method, *_flags(shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _flags(shape: Shape) -> list[str]:
    named = {"--shape": shape.name, "--rows": shape.rows, "--tokens": shape.tokens, "--device": shape.device}
    return [str(part) for pair in named.items() for part in pair]


def step_seconds(shape: Shape, methods: list[str], rounds: int) -> turns.Seconds:
    """Of every step, by method; the first step of each creates the optimiser's state and does not count."""
    frozen = new_backbone(shape)
    trainees = {m: Trainee(shape, m, new_backbone(shape) if m == FULL else frozen) for m in methods}
    variants = {m: lambda _, trainee=trainee: trainee.step() for m, trainee in trainees.items()}
    on_gpu = shape.device.startswith("cuda")
    clock = _synchronized if on_gpu else time.process_time
    return turns.take_turns(variants, [[None]] * (rounds + 1), random.Random(0), clock)


def _synchronized() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(shape: Shape, methods: list[str], rounds: int) -> dict[str, Any]:
    """The result of one shape."""
    peaks = {method: _peak_in_a_process(shape, method) for method in methods}
    seconds = step_seconds(shape, methods, rounds)
    total = peaks[FULL]["parameters"]
    rows = {}
    for method in methods:
        ratios = [own / full for own, full in zip(seconds[method], seconds[FULL], strict=True)]
        rows[method] = {
            "parameters": peaks[method]["parameters"],
            "share_percent": 100 * peaks[method]["parameters"] / total,
            "peak_bytes": peaks[method]["peak"],
            "memory_percent": 100 * (peaks[method]["peak"] / peaks[FULL]["peak"] - 1),
            "seconds_per_step": round(statistics.median(seconds[method]), 4),
            "time_percent": 100 * (statistics.median(ratios) - 1),
        }
    return {"origin": record.origin(), "shape": vars(shape), "rounds": rounds, "methods": rows}


def table(result: dict[str, Any]) -> str:
    """As the paper's Table 3: share, memory and time relative to full fine-tuning, ours and theirs."""
    rows = []
    for method in (m for m in METHODS if m in result["methods"]):
        row = result["methods"][method]
        memory, spent = (f"{value:+.1f} %" for value in (row["memory_percent"], row["time_percent"]))
        theirs = [f"{value:+.1f} %" for value in PAPER[method]] if method in PAPER else ["", ""]
        if method == FULL:
            memory = f"{row['peak_bytes'] / 1e6:,.0f} MB"
            spent, theirs = f"{row['seconds_per_step']:.2f} s", ["", ""]
        rows.append([f"`{method}`", f"{row['share_percent']:.3f} %", memory, theirs[0], spent, theirs[1]])
    head = ("method", "trained share", "peak memory", "paper", "time per step", "paper")
    return tables.table(head, rows)


def described(result: dict[str, Any]) -> str:
    """The table under a line that says what was run, on what."""
    shape, origin = result["shape"], result["origin"]
    where = origin["gpu"] or f"{origin['threads']} thread(s) of {origin['processor']}"
    return (
        f"{shape['name']}, random weights, {shape['rows']} rows of {shape['tokens']} tokens, float32, "
        f"{result['rounds']} timed steps each; {where}; commit {origin['commit']}.\n\n{table(result)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", default="t5-small", help="an architecture of `trunkline methods`")
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of a row")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each method")
    parser.add_argument("--method", action="append", choices=METHODS, help="only these, and `full`")
    parser.add_argument("--name", default=NAME, help="result file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--table", action="store_true", help="measure nothing, print the table")
    args = parser.parse_args()
    shape = Shape(args.shape, args.rows, args.tokens, args.device)
    if args.one:
        print(json.dumps(peak_bytes(shape, args.one)))
        return 0
    if not args.table:
        chosen = [m for m in METHODS if m == FULL or not args.method or m in args.method]
        record.add(args.name, shape.key, measure(shape, chosen, args.rounds))
    for key, result in record.read(args.name).items():
        print(f"{key}: {described(result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
