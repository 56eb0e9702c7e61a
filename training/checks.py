"""What each setting of a training run may be. Plain values in, sentences about problems out; no defaults."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

KINDS = ("single_sentence", "sentence_pair", "regression", "multi_label", "multiple_choice", "free_text")
HEAD, TEXT_TO_TEXT = "head", "text-to-text"
FORMS = (HEAD, TEXT_TO_TEXT)
TARGETS = ("digits", "words")
SPLIT_RULES = ("files", "paper")
RECIPES = ("compacter",)
POOLINGS = ("mean", "first", "pooler", "eos")
FILE_DTYPES = ("float32", "float16")
DEVICES = ("auto", "cpu", "cuda")
_TASK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MOST_FIELDS = 16
MIN_TOKENS = 8
"""The least that a text may be cut to."""


def problems_of(values: Mapping[str, Any]) -> list[str]:
    """A sentence for every value outside its limits, and for every two that contradict each other."""
    bad = [
        f"{name} is {values[name]!r}; allowed: {allowed}"
        for name, (test, allowed) in _RULES.items()
        if values[name] is not None and not test(values[name])
    ]
    return [*bad, *_contradictions(values)]


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    problems = []
    if not _TASK_NAME.fullmatch(str(values["task"])):
        problems.append(
            f"task is {values['task']!r}; allowed: 1 to 64 of lower-case letters, digits, '.', '_' and '-', "
            "the first one a letter or digit"
        )
    problems += _field_problems(values)
    if values["kind"] == "free_text" and values["form"] != TEXT_TO_TEXT:
        problems.append(f"kind free_text is written by a decoder; give --form {TEXT_TO_TEXT} as well")
    if values["kind"] == "regression" and values["class_weights"] != "none":
        problems.append("class_weights has no meaning for regression; leave it at none")
    if values["form"] == TEXT_TO_TEXT and values["class_weights"] != "none":
        problems.append("class_weights has no meaning for text-to-text; leave it at none")
    if values["form"] == TEXT_TO_TEXT:
        named = [name for name in _HEAD_ONLY if values[name] not in (None, 0)]
        problems += [
            f"{name} belongs to a head, and --form {TEXT_TO_TEXT} has none; leave it out" for name in named
        ]
    if values["form"] != TEXT_TO_TEXT:
        named = [name for name in _TEXT_TO_TEXT_ONLY if values[name] != _TEXT_TO_TEXT_ONLY[name]]
        problems += [f"{name} belongs to --form {TEXT_TO_TEXT}; give that as well" for name in named]
    try:
        json.dumps(dict(values["method_config"]))
    except (TypeError, ValueError) as error:
        problems.append(f"method_config must be plain JSON values: {error}")
    return problems


def _field_problems(values: Mapping[str, Any]) -> list[str]:
    """Text fields: two for a pair, at most two for a head, any number for text-to-text and choices."""
    fields, kind, form = values["text_fields"], values["kind"], values["form"]
    if fields is None or form == TEXT_TO_TEXT or kind == "multiple_choice":
        return []
    if kind == "sentence_pair" and len(fields) != 2:
        return [f"kind sentence_pair takes two text_fields, got {len(fields)}: name both"]
    if len(fields) > 2:
        return [f"text_fields is {fields!r}; allowed: one or two field names (more with --form text-to-text)"]
    return []


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low


def _number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)


def _fraction(v: Any) -> bool:
    return _number(v) and 0 <= v < 1


def _rate(v: Any) -> bool:
    return _number(v) and 0 < v <= 10


def _words(v: Any) -> bool:
    return isinstance(v, tuple) and len(v) > 0 and all(isinstance(word, str) and word for word in v)


def _field_names(v: Any) -> bool:
    return _words(v) and len(v) <= _MOST_FIELDS and len(set(v)) == len(v)


def _text(v: Any) -> bool:
    return isinstance(v, str) and bool(v)


def _switch(v: Any) -> bool:
    return isinstance(v, bool)


def _one_of(*allowed: str) -> "_Rule":
    return (lambda v: v in allowed), ", ".join(allowed)


_TEXT_TO_TEXT_ONLY: Mapping[str, Any] = {
    "format": "auto",
    "targets": "digits",
    "task_prefix": None,
    "official_code": False,
}
_HEAD_ONLY = ("pooling", "head_epochs", "head_lr", "lr_head_stage2", "head_weight_decay")
_Rule = tuple[Callable[[Any], bool], str]
_RULES: Mapping[str, _Rule] = {
    "data": (_text, "a path"),
    "task": (_text, "a name"),
    "method": (_text, "a method name"),
    "method_config": (lambda v: isinstance(v, Mapping), "a mapping"),
    "backbone": (_text, "a name or path"),
    "form": _one_of(*FORMS),
    "recipe": _one_of(*RECIPES),
    "device": (lambda v: isinstance(v, str) and v.split(":")[0] in DEVICES, ", ".join(DEVICES)),
    "out": (_text, "a path"),
    "file_dtype": _one_of(*FILE_DTYPES),
    "report": (_text, "a path"),
    "description": (lambda v: isinstance(v, str), "text"),
    "kind": _one_of(*KINDS),
    "text_fields": (_field_names, f"one to {_MOST_FIELDS} different field names"),
    "choice_fields": (_field_names, f"one to {_MOST_FIELDS} different field names"),
    "label_field": (_text, "a field name"),
    "label_names": (lambda v: _words(v) and len(set(v)) == len(v), "different names"),
    "metric": (_text, "a metric name"),
    "format": (_text, "auto, fields, or an official task"),
    "targets": _one_of(*TARGETS),
    "task_prefix": (_switch, "true or false"),
    "official_code": (_switch, "true or false"),
    "class_weights": (_text, "auto, none or a JSON file"),
    "split_rule": _one_of(*SPLIT_RULES),
    "validation_fraction": (lambda v: _fraction(v) and v > 0, "a number over 0 and under 1"),
    "max_train_rows": (_whole(1), "a whole number from 1"),
    "max_validation_rows": (_whole(1), "a whole number from 1"),
    "max_tokens": (_whole(MIN_TOKENS), f"a whole number from {MIN_TOKENS}"),
    "epochs": (_whole(0), "a whole number from 0"),
    "head_epochs": (_whole(0), "a whole number from 0"),
    "lr": (_rate, "a number over 0, at most 10"),
    "head_lr": (_rate, "a number over 0, at most 10"),
    "lr_head_stage2": (_rate, "a number over 0, at most 10"),
    "train_head": (_switch, "true or false"),
    "batch_size": (_whole(1), "a whole number from 1"),
    "batch_tokens": (_whole(8), "a whole number from 8"),
    "min_steps": (_whole(0), "a whole number from 0"),
    "evaluate_steps": (_whole(0), "a whole number from 0"),
    "warmup": (_fraction, "a number from 0, under 1"),
    "warmup_steps": (_whole(0), "a whole number from 0"),
    "head_weight_decay": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "weight_decay": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "patience": (_whole(1), "a whole number from 1"),
    "pooling": _one_of(*POOLINGS),
    "seed": (_whole(0), "a whole number from 0"),
    "seeds": (lambda v: _whole(1)(v) and v <= 100, "a whole number from 1 to 100"),
    "resume": (_switch, "true or false"),
}
