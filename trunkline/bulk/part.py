"""The unfinished output of one command: rows as they come, and beside them what was asked and how far it is.

What a killed run wrote behind its last record is cut off; another command's part is never gone on with.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline.bulk.output import Format
from trunkline.errors import Conflict, Invalid

_EVERY_S = 1.0
_SHOWN = {
    "input": "another file, or it was changed since",
    "tasks": "other tasks or versions",
    "reads": "other fields",
    "options": "other options",
    "columns": "other columns",
}


@dataclass(frozen=True)
class Done:
    """How far it is: rows, answers that failed, texts that are empty, and the bytes of all that."""

    rows: int = 0
    failed: int = 0
    empty: int = 0
    bytes: int = 0


class Part:
    """Rows are added, and kept at least once a second; `finish` moves the whole file into its place."""

    def __init__(self, out: Path, form: Format, command: Mapping[str, Any], *, overwrite: bool) -> None:
        """Begin, or go on where the same command was; `begun_anew` says that another's part was dropped.

        Raises:
            Conflict: the file is there, another run writes it, or the part is another command's.
        """
        self._out, self._format, self._command = out, form, json.loads(json.dumps(command))
        self._overwrite = overwrite
        self._check_free()
        self.path, self._record = part_of(out), out.with_name(f"{out.name}.part.json")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock()
            before = self._before()
            self.begun_anew = before is None and self._record.exists()
            self.done = before or Done()
            self._begin()
        except BaseException:
            os.close(self._file)
            raise

    def _check_free(self) -> None:
        if self._out.exists() and not self._overwrite:
            raise Conflict(f"{self._out} is there already; remove it, name another, or give --overwrite")

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(
                f"{self.path} is being written by another run; wait for it, or name another --out"
            ) from None

    def _before(self) -> Done | None:
        """What the same command did before; None: nothing, or nothing that is whole."""
        try:
            stored = json.loads(self._record.read_text(encoding="utf-8"))
            command, done = stored["command"], Done(**stored["done"])
        except (OSError, ValueError, KeyError, TypeError):
            if os.fstat(self._file).st_size and not self._record.exists():
                raise Conflict(
                    f"{self.path} is there and no part of a run; remove it, or name another --out"
                ) from None
            return None
        if command != self._command and done.rows and not self._overwrite:
            raise Conflict(self._differs(command))
        whole = os.fstat(self._file).st_size >= done.bytes
        return done if whole and command == self._command else None

    def _differs(self, command: Mapping[str, Any]) -> str:
        moved = [
            f"{one['task']} was version {one['version']} until then, and is {other['version']} now"
            for one, other in zip(command["tasks"], self._command["tasks"], strict=False)
            if one["task"] == other["task"] and one["version"] != other["version"]
        ]
        what = moved or [told for key, told in _SHOWN.items() if command.get(key) != self._command[key]]
        go_on = ""
        if len(moved) == len(command["tasks"]) == 1:
            before = command["tasks"][0]
            go_on = f"ask for {before['task']}@{before['version']} to go on with it, "
        return (
            f"{self.path} holds rows that were asked otherwise ({'; '.join(what)}); {go_on}name another "
            "--out, or give --overwrite to begin anew"
        )

    def _begin(self) -> None:
        os.ftruncate(self._file, self.done.bytes)
        os.lseek(self._file, 0, os.SEEK_END)
        self.keep()  # first: a part without a record is somebody else's file
        if not self.done.bytes:
            self._write(head := self._format.head())
            self.done = Done(bytes=len(head))
            self.keep()

    def add(self, values: Mapping[str, Any], *, failed: int, empty: int) -> None:
        """Rows in the format's columns."""
        before, num_rows = self.done, len(next(iter(values.values())))
        self._write(data := self._format.rows(values))
        self.done = Done(  # in one step: who interrupts it keeps all of these rows or none
            before.rows + num_rows, before.failed + failed, before.empty + empty, before.bytes + len(data)
        )
        if time.monotonic() - self._kept >= _EVERY_S:
            self.keep()

    def keep(self) -> None:
        """Whatever happens now, what is written so far is gone on from."""
        os.fsync(self._file)
        new = self._record.with_name(f"{self._record.name}.new")
        new.write_text(json.dumps({"command": self._command, "done": asdict(self.done)}), encoding="utf-8")
        new.replace(self._record)
        self._kept = time.monotonic()

    def close(self) -> None:
        """Keep what is written, if anything is, and let another run go on."""
        try:
            if self.done.rows and self._record.exists():  # else it is finished
                self.keep()
            elif not self.done.rows:
                self.path.unlink(missing_ok=True)
                self._record.unlink(missing_ok=True)
        finally:
            os.close(self._file)

    def finish(self) -> None:
        """The whole file in its place. Raises Conflict where one has come there meanwhile."""
        self.keep()
        self._check_free()
        self._format.finish(self.path).replace(self._out)
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]


def part_of(out: Path) -> Path:
    """Where the rows of an output are until it is whole."""
    return out.with_name(f"{out.name}.part")


def check_out(out: Path, paths: tuple[Path, ...]) -> None:
    """Raises Invalid where nothing can be written, or what is read would be replaced."""
    if not out.parent.is_dir():
        raise Invalid(f"{out}: no folder {out.parent}; create it")
    if out.is_dir():
        raise Invalid(f"{out}: a folder; name a file")
    if any(out.exists() and out.samefile(path) for path in paths):
        raise Invalid(f"{out}: the file that is read; name another --out")
