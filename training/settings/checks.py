"""What a setting of a training run may be, and which two contradict each other; which has which rule is in
`declared.py`. Plain values in, sentences about problems out; no defaults.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass
from typing import Any

HEAD, TEXT_TO_TEXT = "head", "text-to-text"
_DEVICES = ("auto", "cpu", "cuda")
_MOST_FIELDS = 16
AUTO = "auto"
"""The method that is chosen by the lab."""
BUDGET = "10m"
"""What `AUTO` takes when nothing is said."""
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
MIN_TOKENS = 8
"""The least that a text may be cut to."""


@dataclass(frozen=True)
class Rule:
    """What a value may be; `allowed` says it in words, or lists the names."""

    test: Callable[[Any], bool]
    allowed: str | Collection[str]


def seconds_of(budget: str) -> float:
    """ "90s", "10m", "1.5h" or a bare number of seconds. Raises ValueError for anything else, and nought."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smh]?)", budget)
    if match is None or not float(match[1]):
        raise ValueError(f"not a time over 0 such as 90s, 10m or 1h: {budget!r}")
    return float(match[1]) * _UNITS[match[2]]


def _is_time(v: Any) -> bool:
    try:
        return isinstance(v, str) and seconds_of(v) > 0
    except ValueError:
        return False


def one_of(names: Collection[str]) -> Rule:
    """One of some names, looked up when a value is checked."""
    return Rule(lambda v: isinstance(v, str) and v in names, names)


def text(what: str) -> Rule:
    """Any text but the empty one."""
    return Rule(lambda v: isinstance(v, str) and bool(v), what)


def whole(low: int, high: int | None = None) -> Rule:
    """A whole number from `low`, with `high` to that."""
    words = f"a whole number from {low}" + ("" if high is None else f" to {high}")
    return Rule(lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= (high or v), words)


def _number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)


def _different(v: Any, most: float = math.inf) -> bool:
    words = isinstance(v, tuple) and all(isinstance(word, str) and word for word in v)
    return words and 0 < len(v) == len(set(v)) <= most


any_text = Rule(lambda v: isinstance(v, str), "text")
switch = Rule(lambda v: isinstance(v, bool), "true or false")
mapping = Rule(lambda v: isinstance(v, Mapping), "a mapping")
rate = Rule(lambda v: _number(v) and 0 < v <= 10, "a number over 0, at most 10")
fraction = Rule(lambda v: _number(v) and 0 <= v < 1, "a number from 0, under 1")
part = Rule(lambda v: _number(v) and 0 < v < 1, "a number over 0 and under 1")
share = Rule(lambda v: _number(v) and 0 < v <= 1, "a number over 0, at most 1")
positive = Rule(lambda v: _number(v) and v > 0, "a number over 0")
not_negative = Rule(lambda v: _number(v) and v >= 0, "a number from 0")
different_names = Rule(_different, "different names")
field_names = Rule(lambda v: _different(v, _MOST_FIELDS), f"one to {_MOST_FIELDS} different field names")
budget = Rule(_is_time, "a time over 0 such as 90s, 10m or 1h")
device = Rule(lambda v: isinstance(v, str) and v.split(":")[0] in _DEVICES, _DEVICES)
task_name = Rule(
    lambda v: isinstance(v, str) and bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", v)),
    "1 to 64 of lower-case letters, digits, '.', '_' and '-', the first one a letter or digit",
)


def problems_of(settings: Sequence[Field[Any]], values: Mapping[str, Any]) -> list[str]:
    """A sentence for every value outside its limits, and for every two that contradict each other."""
    return [
        *_outside(settings, values),
        *_contradictions(values),
        *_misplaced(settings, values),
        *_searched(values),
    ]


def _searched(values: Mapping[str, Any]) -> Iterator[str]:
    """What a search for a method chooses itself, and what only such a search reads."""
    if values["method"] != AUTO:
        if values["budget"] is not None:
            yield (
                f"budget is {values['budget']!r}, and method {values['method']} takes as long as its epochs: "
                f"leave it out, or give --method {AUTO}"
            )
        return
    for name in ("method_config", "lr", "recipe"):
        if values[name]:
            yield (
                f"{name} is {values[name]!r}, and --method {AUTO} chooses that by measuring: leave it "
                "out, or name a method"
            )
    if values["epochs"] == 0:
        yield f"epochs is 0, and --method {AUTO} trains adapters: leave it out, or give linear_probe"


def _outside(settings: Sequence[Field[Any]], values: Mapping[str, Any]) -> Iterator[str]:
    for f in settings:
        value, rule = values[f.name], f.metadata["rule"]
        if (value is not None or f.default is MISSING) and not rule.test(value):
            allowed = rule.allowed if isinstance(rule.allowed, str) else ", ".join(rule.allowed)
            yield f"{f.name} is {value!r}; allowed: {allowed}"


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    problems = []
    if values["form"] == TEXT_TO_TEXT and values["class_weights"] != "none":
        problems.append("class_weights has no meaning for text-to-text; leave it at none")
    try:
        json.dumps(dict(values["method_config"]))
    except (TypeError, ValueError) as error:
        problems.append(f"method_config must be plain JSON values: {error}")
    return problems


def _misplaced(settings: Sequence[Field[Any]], values: Mapping[str, Any]) -> Iterator[str]:
    """What was given although it belongs to the other form."""
    form = values["form"]
    for f in settings:
        value, only = values[f.name], f.metadata["only"]
        if only == HEAD and form == TEXT_TO_TEXT and value not in (None, 0):
            yield f"{f.name} belongs to a head, and --form {TEXT_TO_TEXT} has none; leave it out"
        if only == TEXT_TO_TEXT and form != TEXT_TO_TEXT and value != f.default:
            yield f"{f.name} belongs to --form {TEXT_TO_TEXT}; give that as well"
