"""The Compacter paper's training, as numbers: epochs, warm-up, batch and lengths by task and size of data.

What the user gives wins over every one of them; the learning rate is in `defaults.py`. AdamW without decay,
linear decay to zero and gradients clipped to norm 1 are what every run here does anyway. Otherwise than in
the paper: validation picks the best label string instead of generating freely (`training/tasks`), and its
batches of 100 rows are not padded.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SMALL_SETS = frozenset(
    {"mrpc", "cola", "stsb", "rte", "superglue-boolq", "superglue-rte", "superglue-cb", "superglue-copa"}
    | {"superglue-wic"}
)
"""What the paper trains for 20 epochs."""
_SMALL_ROWS = 10_000
_LOW_RESOURCE_ROWS = 4000
_LOW_RESOURCE_VISITS = 100_000
_T5_SMALL_HIDDEN = 512


@dataclass(frozen=True)
class Occasion:
    """What decides the numbers: the official task (None = another), rows to learn from, the backbone's width.

    `subsampled` says that `num_train` was chosen by the user out of more rows (the low-resource study).
    """

    official: str | None
    num_train: int
    subsampled: bool
    hidden_size: int


def recipe(occasion: Occasion) -> Mapping[str, int | float | str]:
    """The paper's settings, by the names of the training configuration.

    Epochs: 20 on its small sets (elsewhere: under 10,000 rows), else 3; in the low-resource study 100,000
    over the rows (1000, 200, 100, 50 and 25 epochs for 100, 500, 1000, 2000 and 4000 rows), in batches of 40
    with an evaluation every 250 steps. Warm-up: 500 steps, none on SuperGLUE and on widths up to T5-small's.
    """
    superglue = (occasion.official or "").startswith("superglue-")
    low_resource = occasion.subsampled and occasion.num_train <= _LOW_RESOURCE_ROWS
    no_warmup = superglue or occasion.hidden_size <= _T5_SMALL_HIDDEN
    batch_size = 40 if low_resource else _batch_size(occasion.official, superglue)
    max_tokens = 512 if occasion.official == "superglue-record" else 256 if superglue else 128
    return {
        "epochs": _epochs(occasion, low_resource),
        "fit_head": False,
        "refit": "none",
        "batch_size": batch_size,
        "batch_tokens": batch_size * max_tokens,
        "max_tokens": max_tokens,
        "warmup": 0.0,
        "warmup_steps": 0 if no_warmup else 500,
        "evaluate_steps": 250 if low_resource else 0,
        "weight_decay": 0.0,
    }


def _epochs(occasion: Occasion, low_resource: bool) -> int:
    if low_resource:
        return max(1, round(_LOW_RESOURCE_VISITS / occasion.num_train))
    if occasion.official is None:
        return 20 if occasion.num_train < _SMALL_ROWS else 3
    return 20 if occasion.official in SMALL_SETS else 3


def _batch_size(official: str | None, superglue: bool) -> int:
    if official == "superglue-record":
        return 16
    return 32 if superglue else 100
