"""The check of a file in a process of its own, which knows nothing of what the writer believes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from proof.check import CheckReport
from proof.errors import CheckFailed

TIMEOUT_S = 600
_REPORT = TypeAdapter(CheckReport)
_OURS = str(Path(__file__).resolve().parent.parent)


def _other_roots() -> list[str]:
    """What PYTHONPATH names, but the current folder, which an empty entry means as well."""
    named, here = os.environ.get("PYTHONPATH", "").split(os.pathsep), Path.cwd()
    return [root for root in named if Path(root).resolve() != here.resolve()]


def check_in_fresh_process(path: Path, backbone: str) -> CheckReport:
    """`check_file` in a new Python process; what lies in the current folder has no part in it.

    Raises CheckFailed: the process refuses the file, or does not come to an end.
    """
    # -P: the current folder is not searched; ours comes before whatever PYTHONPATH names.
    command = [sys.executable, "-P", "-m", "proof", str(path.resolve()), backbone]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([_OURS, *_other_roots()])}
    try:
        done = subprocess.run(  # noqa: S603 - our own program, no shell
            command, capture_output=True, timeout=TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise CheckFailed(
            f"the check of {path.name} took over {TIMEOUT_S} s; nothing was announced"
        ) from None
    try:
        report = _REPORT.validate_json(done.stdout)
    except ValidationError:
        tail = _text(done.stdout + done.stderr).strip()[-2000:] or "no output"
        raise CheckFailed(f"the check of {path.name} ended with status {done.returncode}: {tail}") from None
    if done.returncode != 0:
        raise CheckFailed(f"{path.name} was refused in a fresh process: {_text(done.stdout)[:2000]}")
    return report


def _text(output: bytes) -> str:
    """Errors come in the encoding of the machine, which may be any."""
    return output.decode("utf-8", errors="backslashreplace")
