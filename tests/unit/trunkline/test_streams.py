"""Streams that hold every text and break nothing; JSON that stays JSON in every encoding."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.cli import streams
from trunkline.cli.printing import note, print_facts, print_json, print_table

TEXTS = ["plain", "naïve ± …", "日本", "🙂", "half \ud83d", "a byte \udcff", "\x00"]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = (sys.stdin, sys.stdout, sys.stderr)
    yield
    sys.stdin, sys.stdout, sys.stderr = before


def stream(encoding: str, errors: str = "strict") -> tuple[io.BytesIO, io.TextIOWrapper]:
    raw = io.BytesIO()
    return raw, io.TextIOWrapper(raw, encoding=encoding, errors=errors)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "euc-jp", "utf-8", "utf8", "utf-16"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_every_text_is_printed_in_every_encoding(encoding: str, errors: str) -> None:
    (out, sys.stdout), (err, sys.stderr) = stream(encoding, errors), stream(encoding, errors)
    streams.settle()
    print_json({"texts": TEXTS})
    sys.stdout.flush()
    assert json.loads(out.getvalue().decode(encoding)) == {"texts": TEXTS}
    print_facts([("labels", TEXTS)])
    print_table(["text"], [(text,) for text in TEXTS[:-1]])
    note(" ".join(TEXTS))
    sys.stdout.flush()
    assert out.getvalue().decode(encoding).count("plain") == 3
    assert "plain" in err.getvalue().decode(encoding)


def test_a_policy_that_somebody_chose_is_kept() -> None:
    (out, sys.stdout), (_, sys.stderr) = stream("ascii", "ignore"), stream("ascii")
    streams.settle()
    print_facts([("x", "naïve")])
    assert out.getvalue() == b"x  nave\n"


def test_streams_that_are_closed_swallow_what_they_get(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    streams.settle()
    note("x")
    print_json({"x": "y"})
    print_table(["x"], [("y",)])
    assert not sys.stdin.read()
    assert streams.flushed()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_no_room_is_told_once_for_output_and_not_at_all_aside(capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full, open("/dev/full", "w", encoding="utf-8") as aside:
        sys.stdout, sys.stderr = full, aside
        streams.settle()
        note("x" * 100_000)
        sys.stdout.write("x")
        assert not streams.flushed()
        assert streams.flushed()
        full.detach()
        aside.detach()
