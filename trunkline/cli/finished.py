"""Which tasks of one command are done already, for when it is given again after a kill."""

from __future__ import annotations

import hashlib
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
        known = self._found.get(task)
        if known is None or known["digest"] != _digest(Path(known["result"]["file"]["path"])):
            return None
        result: dict[str, Any] = known["result"]
        return result

    def add(self, result: TrainResult) -> dict[str, Any]:
        """Remember a task that is done and published; its result as JSON values."""
        assert result.file is not None, "a lab writes files: this is a bug"
        told = result.to_dict()
        self._found[result.task] = {"result": told, "digest": _digest(Path(result.file.path))}
        waiting = self.path.with_name(f"{self.path.name}.new")
        waiting.write_text(json.dumps({"asked": self._asked, "found": self._found}), encoding="utf-8")
        waiting.replace(self.path)
        return told


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None without one."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
