"""Logs as one JSON object per line with the request id; never the texts of a request.

Knows the format alone. The request id travels in a context variable that the envelope (`api/envelope.py`)
sets.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

request_id: ContextVar[str] = ContextVar("request_id", default="")

_LIBRARY = {"message", "asctime", "color_message", "taskName"}
_STANDARD = _LIBRARY | set(vars(logging.makeLogRecord({})))


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, request_id, what `extra` holds, and the exception's type and places.

    `ascii_only`: for a stream that cannot hold every character, since its own escapes would not be JSON.
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__()
        self._ascii_only = ascii_only

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = describe(record.exc_info[1])
        return json.dumps(line, default=str, ensure_ascii=self._ascii_only)


def describe(error: BaseException) -> dict[str, Any]:
    """An exception without its message, which may quote a user's text: its type and where it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    return {"type": type(error).__name__, "at": [f"{f.filename}:{f.lineno} {f.name}" for f in frames[-12:]]}


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send the logs of the service and of uvicorn to `stream` (standard error) as JSON."""
    output = logging.StreamHandler(stream or sys.stderr)
    unicode = (getattr(output.stream, "encoding", None) or "utf-8").lower().startswith("utf")
    output.setFormatter(JsonFormatter(ascii_only=not unicode))
    for name in ("service", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [output]
        logger.propagate = False
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn.access").disabled = True
