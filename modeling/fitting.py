"""Whether the weights of a file are those of the model that its config describes, by the library's report.

A weight of the body that the file lacks would be random, one that the model has no place for would be left
out: both are silent wrong answers. Heads of other tasks may be there or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedConfig

from .errors import BackboneError
from .folder import PARAMETERS

_LISTED = 5


def check_weights_fit(model: Any, report: Mapping[str, Any], config: PreTrainedConfig) -> None:
    """Raises BackboneError; a pooler that the file lacks is taken off the model instead of being random."""
    _check_shapes(report["mismatched_keys"], config)
    _check_left_out(model, report["unexpected_keys"])
    missing = sorted(report["missing_keys"])
    if missing and all(key.startswith("pooler.") for key in missing):
        model.pooler = None  # the library allows a model without
    elif missing:
        unused = sorted(report["unexpected_keys"])
        hint = f", has others instead ({unused[0]})" if unused else ""
        raise BackboneError(
            f"the file lacks weights{hint}: {_first(missing)}; save the whole model with `save_pretrained`"
        )


def _check_shapes(mismatched: Iterable[tuple[str, Any, Any]], config: PreTrainedConfig) -> None:
    for name, found, wanted in sorted((name, tuple(a), tuple(b)) for name, a, b in mismatched):
        sizes = {b for a, b in zip(found, wanted, strict=False) if a != b}
        fields = [f"{key} {value}" for key, value in config.to_dict().items() if _is_size(value, sizes)]
        said = f" ({', '.join(fields)})" if fields else ""
        raise BackboneError(
            f"{name} is {_shape(found)} in the file, and {_shape(wanted)} by config.json{said}:"
            " one of the two is another model's; take both from one place"
        )


def _is_size(value: object, sizes: set[int]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in sizes


def _check_left_out(model: Any, unexpected: Iterable[str]) -> None:
    """Weights below a part of the body that the model has no place for: it is not the model of the file."""
    body = model.base_model
    parts = {name for name, _ in body.named_children()}
    prefix = f"{model.base_model_prefix}."
    left = [
        key
        for key in sorted(unexpected)
        if key.removeprefix(prefix).split(".")[0] in parts and key.endswith(PARAMETERS)
    ]
    if left:
        raise BackboneError(
            f"the model of config.json has no place for {len(left)} of the file's weights ({_first(left)}):"
            " config.json is another model's (fewer layers, another attention); take both from one place"
        )


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
