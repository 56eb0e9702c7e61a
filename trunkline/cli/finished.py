"""Which tasks of one command are done already, for when it is given again after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.report.result import TrainResult


class Finished:
    """Results by task, in a file beside the adapters.

    They count for the same command alone (`asked`), and as long as the adapter's file is as it was written.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        self.path, self._asked = path, dict(asked)
        self._found: dict[str, dict[str, Any]] = {}
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["asked"] == self._asked:
                self._found = dict(stored["found"])
        except (OSError, ValueError, LookupError, TypeError):
            return  # there is none, or none of ours: nothing is finished

    def of(self, task: str) -> dict[str, Any] | None:
        """What was found for a task; None where that is still to do."""
        from adapters_store.blobs import digest_of

        found = self._found.get(task)
        path = None if found is None else Path(found["file"]["path"])
        if path is None or found is None or not path.is_file():
            return None
        return found if digest_of(path.read_bytes()) == found["file"]["digest"] else None

    def add(self, result: TrainResult) -> dict[str, Any]:
        """Remember a task that is done and published; its result as JSON values."""
        told = self._found[result.task] = result.to_dict()
        waiting = self.path.with_name(f"{self.path.name}.new")
        waiting.write_text(json.dumps({"asked": self._asked, "found": self._found}), encoding="utf-8")
        waiting.replace(self.path)
        return told
