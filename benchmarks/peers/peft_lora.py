"""PEFT's LoRA with `transformers`' own Trainer.

As in PEFT's example for sequence classification (examples/sequence_classification/LoRA.ipynb): rank 8, alpha
16, dropout 0.1, AdamW at 3e-4 with a linear schedule and a warm-up of 6 %, batches of 32, 20 epochs. Tuned:
the best of three rates by held-out rows, with fewer epochs.
"""

from functools import partial
from typing import Any

from benchmarks.peers.problem import Problem
from benchmarks.peers.trainer import Recipe, train, tuned

EXAMPLE = Recipe(lr=3e-4, epochs=20, warmup=0.06)
RATES = (3e-4, 1e-3, 3e-3)
TUNED_EPOCHS, TUNED_MIN_STEPS = 5, 100


def model_of(problem: Problem) -> Any:
    """The library's classifier of the backbone with a LoRA, its head trained with it."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(problem.seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        problem.backbone,
        num_labels=problem.num_labels,
        problem_type="regression" if problem.numbers else "single_label_classification",
        local_files_only=True,
    )
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.1)
    return get_peft_model(model, config).to(problem.device)


def peft_lora(problem: Problem, recipe: Recipe = EXAMPLE) -> list[float]:
    """As in the example."""
    from transformers import Trainer

    return train(model_of(problem), Trainer, problem, recipe)


def peft_lora_tuned(problem: Problem, epochs: int = TUNED_EPOCHS) -> list[float]:
    """The best of `RATES` with as many epochs as ours have."""
    return tuned(problem, RATES, partial(_at, epochs))


def _at(epochs: int, problem: Problem, rate: float) -> list[float]:
    return peft_lora(problem, Recipe(rate, epochs, warmup=0.06, min_steps=TUNED_MIN_STEPS))
