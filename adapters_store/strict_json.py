"""JSON as a hostile sender meets it: UTF-8 only, no duplicate keys at any level, no NaN, bounded size.

Knows nothing of adapters. Python's own reader takes the last of two equal keys and accepts NaN, so two
readers could see two different files; here both are failures.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

from adapters_store.errors import MAX_FAILURES, show
from failures import Failure

_REWRITE = "Write the file again with Trunkline's own writer."


class _TooManyKeysError(Exception):
    """One object with more keys than any sound file has; the number of keys is its argument."""


@dataclass(slots=True)
class _Watch:
    """Collects what the standard reader would pass over in silence."""

    where: str
    max_keys: int
    failures: list[Failure] = field(default_factory=list)

    def pairs(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(pairs) > self.max_keys:
            raise _TooManyKeysError(len(pairs))
        value = dict(pairs)
        if len(value) != len(pairs):
            self._note_duplicates(pairs)
        return value

    def _note_duplicates(self, pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                self._fail(f"the key {show(key)} twice in one object", "every key once")
            seen.add(key)

    def number(self, text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            self._fail(f"the number {show(text)}", "finite numbers")
        return value

    def _fail(self, got: str, allowed: str) -> None:
        if len(self.failures) <= MAX_FAILURES:
            self.failures.append(Failure(self.where, got, allowed, _REWRITE))


def parse_json(raw: bytes, where: str, *, max_values: int, max_keys: int) -> tuple[object, list[Failure]]:
    """Parses `raw`; `where` is the field named in failures. The value is None when it cannot be parsed.

    `max_values` bounds commas and opening brackets together, hence the memory the parsed form can take;
    `max_keys` bounds the keys of one object, hence the failures that one object can cause.
    """
    num_values = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if num_values > max_values:
        got, allowed = f"{num_values} JSON values", f"at most {max_values}"
        return None, [Failure(where, got, allowed, "Shorten the manifest.")]
    watch = _Watch(where, max_keys)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=watch.pairs,
            parse_float=watch.number,
            parse_constant=watch.number,
        )
    except _TooManyKeysError as error:
        got, allowed = f"an object with {error.args[0]} keys", f"at most {max_keys} keys in one object"
        return None, [*watch.failures, Failure(where, got, allowed, "Leave out what is not needed.")]
    except (ValueError, RecursionError) as error:  # bad UTF-8 and endless integers are ValueErrors too
        return None, [*watch.failures, Failure(where, _reason(error), "valid UTF-8 JSON", _REWRITE)]
    return value, watch.failures


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "JSON nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"invalid JSON ({error.msg} at character {error.pos})"
    return f"invalid JSON ({error})"
