"""AdapterHub's Compacter with its own Trainer (`adapters`, which pins a `transformers` of its own).

As its documentation trains adapters: 1e-4, 10 epochs, batches of 32. Tuned: the best of three rates by
held-out rows, among them the Compacter paper's 3e-3, with fewer epochs.
"""

from functools import partial
from typing import Any

from benchmarks.peers.problem import Problem
from benchmarks.peers.trainer import Recipe, train, tuned

DOCUMENTED = Recipe(lr=1e-4, epochs=10)
RATES = (3e-4, 1e-3, 3e-3)
TUNED_EPOCHS, TUNED_MIN_STEPS = 5, 100
_NAME = "task"


def model_of(problem: Problem) -> Any:
    """The library's model of the backbone with a Compacter and a classifier of one layer."""
    import torch
    from adapters import AutoAdapterModel

    torch.manual_seed(problem.seed)
    model = AutoAdapterModel.from_pretrained(problem.backbone, local_files_only=True)
    model.add_adapter(_NAME, config="compacter")
    model.add_classification_head(_NAME, num_labels=problem.num_labels)
    model.train_adapter(_NAME)
    model.set_active_adapters(_NAME)
    return model.to(problem.device)


def adapterhub_compacter(problem: Problem, recipe: Recipe = DOCUMENTED) -> list[float]:
    """As in the documentation."""
    from adapters import AdapterTrainer

    return train(model_of(problem), AdapterTrainer, problem, recipe)


def adapterhub_compacter_tuned(problem: Problem, epochs: int = TUNED_EPOCHS) -> list[float]:
    """The best of `RATES` with as many epochs as ours have."""
    return tuned(problem, RATES, partial(_at, epochs))


def _at(epochs: int, problem: Problem, rate: float) -> list[float]:
    return adapterhub_compacter(problem, Recipe(rate, epochs, warmup=0.06, min_steps=TUNED_MIN_STEPS))
