"""What makes a training step fast, each against the same step without it, and against PEFT's LoRA.

Variants of the same work take turns in one process on the same random rows (lognormal lengths, median 20
tokens, batches of `--rows`); the ratio of each turn is taken, and the median of those is printed: above 1, A
is faster. PEFT's LoRA trains with the library's own Trainer, padded to the longest row
of a batch, with the library's own attention: rows in random order, and once more with rows of like length in
a batch. Our loop trains the same LoRA (rank, projections, rows, rows of a batch) with the precision of `auto`
and in float32. Beside it, the share of a step that is spent outside forward and backward.

    python -m benchmarks.training_speed                 # about five minutes on one core
    python -m benchmarks.training_speed --device cuda
    python -m benchmarks.training_speed --only lora
"""

import logging
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from benchmarks import random_task, record, tables, turns
from benchmarks.learners_together import clock
from modeling import Adapter, Backbone, load_backbone
from modeling.loading import minilm_directory
from training.loop.fit import Learner
from training.loop.optim import Group, build_optimizer, clip
from training.loop.precision import chosen, products_of
from training.loop.prefix import Below, lowest_layer, room_below
from training.loop.stages import Material, adapter_learner

NAME = "training_speed"
RANK = 8
ROUNDED, EXACT = "bfloat16 products", "float32 products"
BEGUN, WHOLE = "from the lowest adapted layer", "whole passes"
ALL, NONE = "both", "neither"
OURS, OURS_EXACT = "our loop", "our loop in float32"
GROUPING = "group_by_length"  # as the library calls it
PEFT, GROUPED = "PEFT with the library's Trainer", "the same, rows grouped by length"
Run = Callable[[Any], object]


class Steps:
    """An adapter in training: called with batches, it makes a step of each."""

    def __init__(
        self, material: Material, adapter: Adapter, rows: int, *, rounded: bool, begun: bool
    ) -> None:
        backbone = material.backbone
        products = products_of("bfloat16" if rounded else "float32", backbone.model, backbone.device)
        below = _kept(material, adapter) if begun else None
        hyper = random_task.settings(rows)
        self.adapter, self.backbone = adapter, backbone
        self.learner: Learner = adapter_learner(material, adapter, hyper, 0, below=below, products=products)
        self.optimizer = build_optimizer(self.learner.groups)
        self.batches = self.learner.batches(1)

    def __call__(self, _: object) -> None:
        with self.adapter.attached(self.backbone):
            for rows in self.batches:
                loss = self.learner.loss(rows)
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own
                clip(self.learner.parameters.values())
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                float(loss.detach())

    def outside_passes(self) -> float:
        """Share of the time of all these steps that is neither forward nor backward, packing included."""
        spent = dict.fromkeys(("passes", "rest"), 0.0)
        with self.adapter.attached(self.backbone):
            for rows in self.batches:
                start = clock(self.backbone)
                loss = self.learner.loss(rows)
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own
                between = clock(self.backbone)
                clip(self.learner.parameters.values())
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                spent["passes"] += between - start
                spent["rest"] += clock(self.backbone) - between
        return spent["rest"] / sum(spent.values())


def _kept(material: Material, adapter: Adapter) -> Below:
    layer = lowest_layer(material.backbone, adapter)
    return room_below(material.backbone, material.train, material.validation, layer)


def precision_ratios(material: Material, rows: int, rounds: int) -> dict[str, Any]:
    """Rounded products against float32's, by method."""
    found = {}
    for method in ("hadamard", "compacter", "lora"):
        adapter = random_task.adapter_on(material, method)
        variants: dict[str, Run] = {
            name: Steps(material, adapter, rows, rounded=name == ROUNDED, begun=False)
            for name in (ROUNDED, EXACT)
        }
        seconds = turn_about(material.backbone, variants, rounds)
        found[f"{method}: {ROUNDED} / {EXACT}"] = turns.ratio(seconds, ROUNDED, EXACT)
    return found


def last_third_ratios(material: Material, rows: int, rounds: int) -> dict[str, Any]:
    """States kept below the last third of the layers, with rounded products and without."""
    count = len(material.backbone.layers)
    layers = list(range(count - count // 3, count))
    adapter = random_task.adapter_on(material, "hadamard", layers=layers)
    every = random_task.adapter_on(material, "hadamard")
    variants: dict[str, Run] = {
        WHOLE: Steps(material, adapter, rows, rounded=False, begun=False),
        BEGUN: Steps(material, adapter, rows, rounded=False, begun=True),
        ALL: Steps(material, adapter, rows, rounded=True, begun=True),
        NONE: Steps(material, every, rows, rounded=False, begun=False),
    }
    seconds = turn_about(material.backbone, variants, rounds)
    third = f"hadamard in layers {layers[0]} to {layers[-1]} of {count}"
    return {
        f"{third}: {BEGUN} / {WHOLE}": turns.ratio(seconds, BEGUN, WHOLE),
        f"{third}: {BEGUN}, {ROUNDED} / {WHOLE}, {EXACT}": turns.ratio(seconds, ALL, WHOLE),
        f"{third}: {BEGUN} / all layers": turns.ratio(seconds, BEGUN, NONE),
    }


def update_ratios(material: Material, rows: int, rounds: int) -> dict[str, Any]:
    """The update alone (clipping and AdamW): fused, against one loop over parameters in Python."""
    found = {}
    for method in ("hadamard", "compacter"):
        adapter = random_task.adapter_on(material, method)
        parameters = adapter.body_parameters()
        fused = build_optimizer([Group(tuple(parameters), 1e-4)])
        plain = torch.optim.AdamW(parameters, 1e-4, foreach=False)

        def ours(_: object, own: list[nn.Parameter] = parameters, optimizer: Any = fused) -> None:
            _gradients(own)
            clip(own)
            optimizer.step()

        def looped(_: object, own: list[nn.Parameter] = parameters, optimizer: Any = plain) -> None:
            _gradients(own)
            nn.utils.clip_grad_norm_(own, 1.0, foreach=False)
            optimizer.step()

        many = {"fused": _often(ours), "loop": _often(looped)}
        seconds = turn_about(material.backbone, many, rounds)
        found[f"{method}: fused update / a loop over parameters"] = turns.ratio(seconds, "fused", "loop")
    return found


def _gradients(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.full_like(parameter, 1e-3)


def _often(run: Run) -> Run:
    def many(_: object) -> None:
        for _ in range(50):
            run(None)

    return many


def lora_ratios(material: Material, rows: int, rounds: int) -> dict[str, Any]:
    """The same LoRA on the same rows: our loop, and PEFT's model with the library's Trainer."""
    adapter = random_task.adapter_on(material, "lora", rank=RANK)
    rounded = chosen("auto", material.backbone.device) == "bfloat16"
    with (
        trainer_on(material, rows, "random") as plain,
        trainer_on(material, rows, GROUPING) as by_length,
    ):
        variants: dict[str, Run] = {
            OURS: Steps(material, adapter, rows, rounded=rounded, begun=False),
            OURS_EXACT: Steps(material, adapter, rows, rounded=False, begun=False),
            PEFT: lambda _: plain.train(),
            GROUPED: lambda _: by_length.train(),
        }
        seconds = turn_about(material.backbone, variants, rounds)
    pairs = [(ours, theirs) for ours in (OURS, OURS_EXACT) for theirs in (PEFT, GROUPED)]
    return {f"lora: {a} / {b}": turns.ratio(seconds, a, b) for a, b in pairs}


@contextmanager
def trainer_on(material: Material, rows: int, order: str) -> Iterator[Any]:
    """PEFT's LoRA of the query and value projections, in a Trainer of one epoch without evaluation."""
    import peft
    from transformers import AutoModelForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

    logging.getLogger("transformers").setLevel(logging.ERROR)
    labels = len(random_task.LABELS)
    model = AutoModelForSequenceClassification.from_pretrained(minilm_directory(), num_labels=labels)
    asked = peft.LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=RANK, target_modules=["query", "value"])
    on_cpu = material.backbone.device.type == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=rows,
            learning_rate=1e-4,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=on_cpu,
            dataloader_pin_memory=not on_cpu,
            train_sampling_strategy=order,
        )
        examples = [
            {"input_ids": text.ids, "labels": int(target)}
            for text, target in zip(material.train.encoded, material.wanted.targets.tolist(), strict=True)
        ]
        trainer = Trainer(
            model=peft.get_peft_model(model, asked),
            args=settings,
            train_dataset=examples,
            data_collator=padded,
        )
        trainer.remove_callback(PrinterCallback)
        yield trainer


def padded(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows of one batch to the length of the longest, as the library's collator does."""
    longest = max(len(one["input_ids"]) for one in examples)
    lengths = [len(one["input_ids"]) for one in examples]
    ids = [one["input_ids"] + [0] * (longest - len(one["input_ids"])) for one in examples]
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor([[1] * n + [0] * (longest - n) for n in lengths]),
        "labels": torch.tensor([one["labels"] for one in examples]),
    }


def turn_about(backbone: Backbone, variants: Mapping[str, Run], rounds: int) -> turns.Seconds:
    return turns.take_turns(variants, [[None]] * (rounds + 1), random.Random(0), lambda: clock(backbone))


def table(results: Mapping[str, Any]) -> str:
    """All ratios, by device."""
    parts = []
    for _, found in sorted(results.items()):
        origin, share = found["origin"], 100 * found["share_outside_passes"]
        where = origin["gpu"] if origin["gpu"] and found["device"] != "cpu" else origin["processor"]
        rows = [
            [name, f"{ratio['median']:.2f}", f"{ratio['q1']:.2f} to {ratio['q3']:.2f}"]
            for name, ratio in found["throughput_ratios"].items()
        ]
        parts.append(
            f"{where}, {origin['threads']} thread(s), batches of {found['rows']} rows; {share:.1f} % of a "
            f"step is neither forward nor backward; commit {origin['commit']}.\n\n"
            + tables.table(("A / B", "A, times as fast", "quartiles"), rows)
        )
    return "\n\n".join(parts) or "Not measured yet."


PARTS: dict[str, Callable[[Material, int, int], dict[str, Any]]] = {
    "precision": precision_ratios,
    "below": last_third_ratios,
    "update": update_ratios,
    "lora": lora_ratios,
}


def main() -> int:
    parser = turns.options(__doc__, rounds=5, rows=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=8, help="batches of a turn")
    parser.add_argument("--only", action="append", choices=PARTS)
    args = parser.parse_args()
    backbone = load_backbone("minilm", device=args.device)
    material = random_task.material_on(backbone, args.rows * args.steps)
    adapter = random_task.adapter_on(material, "hadamard")
    steps = Steps(
        material, adapter, args.rows, rounded=chosen("auto", backbone.device) == "bfloat16", begun=False
    )
    steps(None)
    key = args.device.split(":")[0]
    kept = record.read(NAME).get(key, {"throughput_ratios": {}})
    result = {
        "origin": record.origin(),
        "device": key,
        "rows": args.rows,
        "steps": args.steps,
        "rounds": args.rounds,
        "share_outside_passes": round(statistics.median(steps.outside_passes() for _ in range(3)), 4),
        "throughput_ratios": dict(kept["throughput_ratios"]),
    }
    for name in args.only or PARTS:
        result["throughput_ratios"] |= PARTS[name](material, args.rows, args.rounds)
        record.add(NAME, key, result)
    turns.print_ratios(result)
    print(f"outside of forward and backward: {100 * result['share_outside_passes']:.1f} % of a step")
    return 0


if __name__ == "__main__":
    sys.exit(main())
