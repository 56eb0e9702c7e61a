"""Streams that hold every text and break nothing; JSON that stays JSON in every encoding."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest
from typing_extensions import Buffer

from trunkline.cli import streams
from trunkline.cli.printing import note, print_facts, print_json, print_table

TEXTS = ["plain", "naïve ± …", "日本", "🙂", "half \ud83d", "a byte \udcff", "\x00"]


@contextmanager
def settled(out: TextIO | None, err: TextIO | None) -> Iterator[None]:
    """With these as standard streams and no standard input, made lenient; closed at the end."""
    before = (sys.stdin, sys.stdout, sys.stderr)
    for name, stream in (("stdin", None), ("stdout", out), ("stderr", err)):
        setattr(sys, name, stream)
    streams.settle()
    try:
        yield
    finally:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            stream.close()
        sys.stdin, sys.stdout, sys.stderr = before


class Disk(io.RawIOBase):
    """What is written to it arrives once there is room."""

    def __init__(self) -> None:
        super().__init__()
        self.has_room, self.text = False, b""

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        if not self.has_room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.text += bytes(data)
        return len(bytes(data))


def stream(encoding: str, errors: str = "strict") -> tuple[io.BytesIO, io.TextIOWrapper]:
    raw = io.BytesIO()
    return raw, io.TextIOWrapper(raw, encoding=encoding, errors=errors)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "euc-jp", "utf-8", "utf8", "utf-16"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_every_text_is_printed_in_every_encoding(encoding: str, errors: str) -> None:
    (out, stdout), (err, stderr) = stream(encoding, errors), stream(encoding, errors)
    with settled(stdout, stderr):
        print_json({"texts": TEXTS})
        assert json.loads(out.getvalue().decode(encoding)) == {"texts": TEXTS}
        print_facts([("labels", TEXTS)])
        print_table(["text"], [(text,) for text in TEXTS[:-1]])
        note(" ".join(TEXTS))
        assert streams.flushed()
        assert out.getvalue().decode(encoding).count("plain") == 3
        assert "plain" in err.getvalue().decode(encoding)


def test_a_policy_that_somebody_chose_is_kept() -> None:
    (out, stdout), (_, stderr) = stream("ascii", "ignore"), stream("ascii")
    with settled(stdout, stderr):
        print_facts([("x", "naïve")])
        assert out.getvalue() == b"x  nave\n"


def test_streams_that_are_closed_swallow_what_they_get() -> None:
    with settled(None, None):
        note("x")
        print_json({"x": "y"})
        print_table(["x"], [("y",)])
        assert not sys.stdin.read()
        assert streams.flushed()


def test_no_room_is_told_once_for_output_and_not_at_all_aside() -> None:
    full, (said, stderr) = Disk(), stream("utf-8")
    stdout = io.TextIOWrapper(io.BufferedWriter(full), "utf-8")
    with settled(stdout, stderr):
        sys.stdout.write("x")
        assert not streams.flushed()
        assert streams.flushed(), "nothing is left to be flushed when Python ends"
        assert said.getvalue() == b"error: standard output: No space left on device\n"
    full.has_room = True
    stdout.close()
    assert full.text == b"x"


def test_nothing_fails_because_nobody_can_be_told() -> None:
    disk, (_, stdout) = Disk(), stream("utf-8")
    with settled(stdout, io.TextIOWrapper(io.BufferedWriter(disk), "utf-8")):
        note("x" * 100_000)
        disk.has_room = True
