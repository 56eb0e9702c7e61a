"""The kinds of task on the training side, one file each, found by discovery."""

from modeling.registry import discover
from training.rows.examples import Target
from training.tasks.base import TASKS, Baseline, Logits, TargetError, Task, register

discover(__name__, __path__)

__all__ = ["TASKS", "Baseline", "Logits", "Target", "TargetError", "Task", "register"]
