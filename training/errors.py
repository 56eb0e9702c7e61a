"""What can go wrong between a data file and an adapter file, as one tree.

Every message names the offender, what was found, what is allowed and what to do about it.
"""

from collections.abc import Sequence


class TrainingError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(TrainingError):
    """A setting is unknown, impossible, or contradicts another one."""


class DataError(TrainingError):
    """The data cannot be read or cannot be learnt from; the message names file, row and field.

    `failures` are several sentences of which the message consists, to be shown one a line.
    """

    def __init__(self, message: str, failures: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


class TrainingFailedError(TrainingError):
    """The run itself went wrong: nothing to train, no gradient, a loss or metric that is not a number."""


class PublishError(TrainingError):
    """The written file did not give the same answers when it was loaded again in a fresh process."""
