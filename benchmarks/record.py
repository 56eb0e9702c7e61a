"""What every result file says of its origin: commit, machine, library versions; and how it is written."""

import datetime
import fcntl
import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("TRUNKLINE_RESULTS") or Path(__file__).parent / "results")
"""Where result files are; another folder on a machine whose files do not come back."""


def origin() -> dict[str, Any]:
    """Commit, time, processor and versions, without anything that names a host."""
    import torch
    import transformers

    return {
        "commit": _commit() or os.environ.get("TRUNKLINE_COMMIT", "unknown"),  # a copy without its history
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _commit() -> str:
    command, here = ["git", "rev-parse", "--short=12", "HEAD"], Path(__file__).parent
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here)
    except OSError:  # a machine without git
        return ""
    return found.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def write(name: str, payload: dict[str, Any]) -> Path:
    """Write `results/<name>.json`, whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(payload, indent=1, sort_keys=True) + "\n")
    partial.replace(path)
    return path


def add(name: str, key: str, value: dict[str, Any]) -> None:
    """Add one record to a result file; several processes may do so at once."""
    change(name, lambda payload: payload | {key: value})


def change(name: str, to: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the payload of a result file by what `to` makes of it; several processes may do so at once."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write(name, to(read(name)))


def read(name: str) -> dict[str, Any]:
    """The payload of `results/<name>.json`, empty when there is none."""
    path = RESULTS / f"{name}.json"
    payload: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return payload
