"""Offline training: data in, one adapter file out.

Read `run.py` first: it is the one composition root, top to bottom. Shapes in comments: N rows of a split,
B rows of a batch, T tokens of a packed batch, H hidden size, L labels.
This package never imports `service`; what both need lives in `modeling` and `adapters_store`.
"""

from training.errors import ConfigError, DataError, PublishError, TrainingError, TrainingFailedError
from training.loop.progress import NullProgress, Progress
from training.settings.config import TrainConfig

__all__ = [
    "ConfigError",
    "DataError",
    "NullProgress",
    "Progress",
    "PublishError",
    "TrainConfig",
    "TrainingError",
    "TrainingFailedError",
]
