"""Logs: one JSON object per line, with the request id, and never the message of an exception."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from service import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    names = ("service", "uvicorn")
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in names}
    captured = io.StringIO()
    logs.configure("info", captured)
    yield captured
    for name, (handlers, level) in before.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = handlers, True
        logger.setLevel(level)


def test_a_line_is_json_with_the_request_id_and_extras(stream: io.StringIO) -> None:
    marked = logs.request_id.set("abc")
    logging.getLogger("service.x").info("upload", extra={"task": "mood", "version": 3})
    logging.getLogger("service.x").debug("not shown")
    logs.request_id.reset(marked)
    line = json.loads(stream.getvalue())
    assert (line["level"], line["message"], line["request_id"]) == ("info", "upload", "abc")
    assert (line["task"], line["version"]) == ("mood", 3)


def test_an_exception_is_its_type_and_place_without_its_message(stream: io.StringIO) -> None:
    try:
        raise ValueError("the text of a user")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("request failed")
    assert "the text of a user" not in stream.getvalue()
    line = json.loads(stream.getvalue())
    assert line["exception"]["type"] == "ValueError"
    assert "test_logs.py" in line["exception"]["at"][-1]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_line_is_json_whatever_the_stream_can_hold(stream: io.StringIO, encoding: str) -> None:
    raw = io.BytesIO()
    logs.configure("info", io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace"))
    logging.getLogger("service.x").info("naïve 日本 🙂", extra={"cut": "\ud83d"})
    line = json.loads(raw.getvalue().decode(encoding))
    assert (line["message"], line["cut"]) == ("naïve 日本 🙂", "\ud83d")
