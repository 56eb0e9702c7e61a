"""What PEFT and AdapterHub share: `transformers`' own Trainer on rows, and its answers. Any version of it."""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.peers.problem import Problem, Row, Texts

MAX_TOKENS = 128


@dataclass(frozen=True)
class Recipe:
    """How a Trainer is told to train: AdamW with a linear schedule, for at least `min_steps` steps."""

    lr: float
    epochs: int
    batch_size: int = 32
    warmup: float = 0.0
    min_steps: int = 0
    bfloat16: bool = False

    def steps(self, num_rows: int) -> int:
        """Of the whole run."""
        return max(self.epochs * math.ceil(num_rows / self.batch_size), self.min_steps)


def tokenizer_of(problem: Problem) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(problem.backbone, local_files_only=True)


def encoded(rows: Sequence[Texts], tokenizer: Any) -> list[dict[str, Any]]:
    """Token ids of each row, a pair as the model's tokenizer joins it."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    found = tokenizer(*columns, truncation=True, max_length=MAX_TOKENS)
    return [{name: values[index] for name, values in found.items()} for index in range(len(rows))]


def with_labels(rows: Sequence[Row], tokenizer: Any, *, numbers: bool) -> list[dict[str, Any]]:
    """As the Trainer takes them."""
    texts = encoded([row.texts for row in rows], tokenizer)
    labels = [row.label if numbers else int(row.label) for row in rows]
    return [one | {"labels": label} for one, label in zip(texts, labels, strict=True)]


def arguments(problem: Problem, recipe: Recipe, folder: str, steps: int) -> Any:
    """Nothing is logged or saved, so that the time is that of training."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=128,
        learning_rate=recipe.lr,
        lr_scheduler_type="linear",
        warmup_steps=round(recipe.warmup * steps),
        max_steps=steps,
        weight_decay=0.0,
        seed=problem.seed,
        bf16=recipe.bfloat16,
        use_cpu=problem.device == "cpu",
        save_strategy="no",
        logging_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def train(model: Any, trainer: type[Any], problem: Problem, recipe: Recipe) -> list[float]:
    """Train `model` by the `trainer` class of its library; what it answers to the test texts."""
    from transformers import DataCollatorWithPadding

    tokenizer = tokenizer_of(problem)
    rows = with_labels(problem.train, tokenizer, numbers=problem.numbers)
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(
            model=model,
            args=arguments(problem, recipe, folder, recipe.steps(len(rows))),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        run.train()
    return answers(model, encoded(problem.test, tokenizer), tokenizer, numbers=problem.numbers)


@torch.no_grad()
def answers(model: Any, rows: list[dict[str, Any]], tokenizer: Any, *, numbers: bool) -> list[float]:
    """The likeliest class of each row, or its number."""
    device = next(model.parameters()).device
    model.eval()
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    found = np.empty(len(rows))
    for start in range(0, len(order), 128):
        batch = order[start : start + 128]
        inputs = tokenizer.pad([rows[index] for index in batch], return_tensors="pt").to(device)
        logits = model(**inputs).logits.float().cpu().numpy()  # [B, L]
        found[batch] = logits[:, 0] if numbers else logits.argmax(-1)
    return [float(value) for value in found]


def tuned(problem: Problem, rates: Sequence[float], run: Any, held_out: float = 0.1) -> list[float]:
    """The rate that is best on held-out train rows, then trained on all of them.

    `run(problem, rate)` answers the problem's test texts. Classes are judged by accuracy, numbers by the
    mean squared error.
    """
    order = np.random.default_rng(problem.seed).permutation(len(problem.train))
    cut = max(1, round(held_out * len(order)))
    held, kept = ([problem.train[index] for index in part] for part in (order[:cut], order[cut:]))
    part = problem.with_rows(kept, [row.texts for row in held])
    wanted = np.array([row.label for row in held])
    scores = {}
    for rate in rates:
        told = np.array(run(part, rate))
        scores[rate] = -float(np.mean((told - wanted) ** 2)) if problem.numbers else np.mean(told == wanted)
    best = max(rates, key=lambda rate: scores[rate])
    answered: list[float] = run(problem, best)
    return answered


class Clock:
    """Times of the ends of steps, as a callback of the Trainer; the steps before `skip` warm up."""

    def __init__(self, skip: int, device: str) -> None:
        self.skip, self.device = skip, device
        self.ends: list[float] = []

    def tick(self) -> None:
        """A step is over."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    @property
    def seconds_per_step(self) -> float:
        """Of the steps after those that warm up."""
        counted = self.ends[self.skip :]
        return (counted[-1] - counted[0]) / (len(counted) - 1)


def in_order(trainer: type[Any]) -> type[Any]:
    """The same Trainer with the rows in the order in which they are given."""

    class InOrder(trainer):  # type: ignore[misc]  # a class that is chosen at run time
        """`trainer` without shuffling."""

        def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    return InOrder


def timed(
    model: Any, trainer: type[Any], problem: Problem, recipe: Recipe, skip: int, rows: list[dict[str, Any]]
) -> float:
    """Seconds of a step of the library's own loop on `rows`, in their order."""
    from transformers import DataCollatorWithPadding, TrainerCallback

    clock = Clock(skip, problem.device)

    class Ticks(TrainerCallback):  # type: ignore[misc]  # the library's class is untyped here
        """Tells the clock."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    with tempfile.TemporaryDirectory() as folder:
        run = in_order(trainer)(
            model=model,
            args=arguments(problem, recipe, folder, math.ceil(len(rows) / recipe.batch_size)),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer_of(problem)),
            callbacks=[Ticks()],
        )
        run.train()
    return clock.seconds_per_step
