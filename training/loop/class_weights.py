"""Weights per label, from the train counts or from a file, as the loss takes them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from training.errors import ConfigError
from training.rows.canonical import canonical
from training.rows.examples import label_counts
from training.tasks import Target, Task

_LARGEST = 100.0


def class_weights(setting: str, task: Task, targets: Sequence[Target]) -> list[float] | None:
    """Weights [L] for `auto`, `none` or a JSON file {label: weight}.

    `auto` is rows / (labels * rows of the label) for one label a row, and negatives / positives for several;
    both at most 100, and 1 for a label without rows.

    Raises:
        ConfigError: not for this kind of task, or a file that does not give every label a positive number.
    """
    if setting == "none":
        return None
    if not task.weighted:
        raise ConfigError(f"class_weights has no meaning for {task.kind}; leave it at none")
    return _balanced(task, targets) if setting == "auto" else _from_file(Path(setting), task.labels)


def _balanced(task: Task, targets: Sequence[Target]) -> list[float]:
    counts = label_counts(targets)
    found = (counts[index] for index in range(len(task.labels)))
    weights = [min(task.balance(count, len(targets)), _LARGEST) if count else 1.0 for count in found]
    return [weight or 1.0 for weight in weights]


def _from_file(path: Path, labels: Sequence[str]) -> list[float]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"class_weights: {path} is not a JSON file ({error}); allowed: auto, none or a file"
        ) from None
    if isinstance(stored, dict):
        stored = {canonical(name): weight for name, weight in stored.items()}
        labels = [canonical(label) for label in labels]
    if not isinstance(stored, dict) or set(stored) != set(labels):
        odd = sorted(set(stored) ^ set(labels))[:5] if isinstance(stored, dict) else type(stored).__name__
        raise ConfigError(f"class_weights: {path.name} must give each label one weight; differs at {odd}")
    bad = [name for name, value in stored.items() if not _positive(value)]
    if bad:
        raise ConfigError(f"class_weights: {path.name}: {', '.join(bad[:5])} must be numbers over 0")
    return [float(stored[name]) for name in labels]


def _positive(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    )
