"""What was found of stored files, remembered beside them: a start need not find it again. No tensors.

A text file: under which circumstances it was found, then a line for each file that was looked at, of which
the last one counts. What is remembered says only what need not be done again: a line that cannot be read, or
other circumstances, cost time and nothing else. But that probes of a file are still to be replayed, or were
not reproduced, is kept as something to be done.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters_store import durable

Word = Literal["proven", "begun", "refused"]

_HEADING = "trunkline proofs 1"
_LINE = re.compile(r'(sha256:[0-9a-f]{64}) (proven|begun|refused) ("(?:[^"\\]|\\.)*")')
_MAX_REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class Proof:
    """Of one file: `proven` (its probes were reproduced), `begun` (some are to be replayed), or `refused`."""

    word: Word
    reason: str = ""


class Proofs:
    """What was found under these `circumstances`, by digest. Safe for threads.

    Without `temporary`, a folder for files that are being written, the store is read-only: nothing is kept.
    """

    def __init__(self, path: Path, circumstances: str, temporary: Path | None) -> None:
        self._path, self._temporary = path, temporary
        self._heading = f"{_HEADING} {circumstances}"
        self._guard = threading.Lock()
        self._found, self._is_whole = self._read()

    def of(self, digest: str) -> Proof | None:
        """What is known of a file."""
        return self._found.get(digest)

    def forget_proven(self) -> None:
        """One of them did not hold: none does."""
        with self._guard:
            self._found = {digest: one for digest, one in self._found.items() if one.word != "proven"}
            self._is_whole = False

    def note(self, word: Word, *digests: str, reason: str = "") -> None:
        """Remember durably. Raises OSError."""
        proof = Proof(word, reason[:_MAX_REASON_CHARS])
        with self._guard:
            self._found |= dict.fromkeys(digests, proof)
            if self._temporary is None or not digests:
                return
            if not self._is_whole:
                self._write(self._found)
            else:
                self._append("".join(_line(digest, proof) for digest in digests))

    def keep(self, digests: Collection[str]) -> None:
        """Forget all other files, which are gone. Raises OSError."""
        with self._guard:
            kept = {digest: proof for digest, proof in self._found.items() if digest in digests}
            if self._temporary is not None and (len(kept) < len(self._found) or not self._is_whole):
                self._write(kept)
            self._found = kept

    def _read(self) -> tuple[dict[str, Proof], bool]:
        """What counts now, and whether the file says just that and can be added to."""
        try:
            text = self._path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return {}, False
        heading, *lines = text.split("\n")
        found: dict[str, Proof] = {}
        for line in lines:
            match = _LINE.fullmatch(line)
            if match:
                with contextlib.suppress(ValueError):
                    found[match[1]] = Proof(match[2], json.loads(match[3]))  # type: ignore[arg-type]  # of the three
        if heading == self._heading:
            return found, text.endswith("\n")
        return {digest: Proof("begun") for digest, one in found.items() if one.word != "proven"}, False

    def _append(self, text: str) -> None:
        try:
            with self._path.open("a", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self._is_whole = False  # half a line may be there
            raise

    def _write(self, found: dict[str, Proof]) -> None:
        assert self._temporary is not None
        lines = "".join(_line(digest, proof) for digest, proof in found.items())
        durable.replace(self._path, f"{self._heading}\n{lines}".encode("ascii"), self._temporary)
        self._is_whole = True


def _line(digest: str, proof: Proof) -> str:
    return f"{digest} {proof.word} {json.dumps(proof.reason)}\n"
