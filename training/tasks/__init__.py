"""The kinds of task on the training side, one file each, found by discovery."""

import importlib
import pkgutil

from training.rows.examples import Target
from training.tasks.base import TASKS, Baseline, Logits, Task, register

# As modeling.registry.discover does; that package imports torch, and reading data does without.
for _module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

__all__ = ["TASKS", "Baseline", "Logits", "Target", "Task", "register"]
