"""The state of an unfinished run on disk: written whole after every epoch, read back after a kill.

One file beside the adapter file. It holds tensors and plain values only, so that reading it runs no code;
what belongs to another run (other settings, other data) is not used.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

import torch

RESUMED = "resumed"
_FORMAT = 1


class Journal(Protocol):
    """Where a stage keeps its state."""

    def load(self, stage: str) -> dict[str, Any] | None:
        """The last state of `stage`, or None."""

    def save(self, stage: str, state: dict[str, Any]) -> None:
        """Replace the state of `stage`."""


class NoJournal:
    """For runs that are not worth resuming."""

    def load(self, stage: str) -> None: ...
    def save(self, stage: str, state: dict[str, Any]) -> None: ...


class FileJournal:
    """States of all stages of one run in one file, replaced atomically.

    `fingerprint` names the run; a file with another one is left unread and overwritten at the first `save`.
    `found` tells what was there: None, RESUMED, or why it was not used.
    """

    def __init__(self, path: Path, fingerprint: str, *, resume: bool = True) -> None:
        self.path = path
        self._fingerprint = fingerprint
        self._stages: dict[str, Any] = {}
        self.found: str | None = None
        if resume and path.is_file():
            self._read()

    def load(self, stage: str) -> dict[str, Any] | None:
        state = self._stages.get(stage)
        return dict(state) if state is not None else None

    def save(self, stage: str, state: dict[str, Any]) -> None:
        self._stages[stage] = state
        content = {"format": _FORMAT, "fingerprint": self._fingerprint, "stages": self._stages}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _read(self) -> None:
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            if content["format"] != _FORMAT or content["fingerprint"] != self._fingerprint:
                self.found = "it belongs to a run with other settings or other data"
                return
            self._stages = dict(content["stages"])
            self.found = RESUMED
        except Exception as error:  # any damage means the same: begin again
            self.found = f"it cannot be read ({type(error).__name__})"
