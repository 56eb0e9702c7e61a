"""Why a backbone cannot be served, as far as its folder tells before anything heavy is imported.

Knows config.json and the settings. It answers before the service listens, so that a wrong name is one
sentence and not a start that fails; what only loading shows (weights, tokenizer, a hub) is left to the start.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

from .settings import Settings

_ANY_CAN = frozenset({"auto", "float32"})
_EMBEDDED = "minilm"
_REMEDY = (
    "Give 'minilm', a local directory with config.json, model.safetensors and a fast tokenizer, or a hub id"
)


def refusal(settings: Settings) -> str | None:
    """What is wrong with the backbone, with the remedy; None if nothing is known against it."""
    name = settings.backbone
    if name == _EMBEDDED:
        return None
    folder = Path(name)
    if not folder.is_dir():
        return _cannot(name, "there is no such directory") if _is_path(name) else None
    try:
        model_type = _model_type(folder)
    except (OSError, ValueError) as error:
        return _cannot(name, f"its config.json cannot be read: {error}")
    if model_type is None or (settings.dtype in _ANY_CAN and _registered(model_type)):
        return None
    return _refused_by_family(name, model_type, settings.dtype)


def _is_path(name: str) -> bool:
    """Whether a name cannot be that of a hub, which is `name` or `owner/name`."""
    return name.count(os.sep) > 1 or name.startswith((os.sep, ".", "~")) or name.endswith(os.sep)


def _model_type(folder: Path) -> str | None:
    """What the config calls the kind of model; None if it does not. Raises OSError, ValueError."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = config.get("model_type") if isinstance(config, dict) else None
    return found if isinstance(found, str) else None


def _registered(model_type: str) -> bool:
    """Whether a family's file says so: read, because the seconds of importing it would delay `/live`."""
    modeling = importlib.util.find_spec("modeling")
    assert modeling is not None
    assert modeling.origin is not None
    texts = (file.read_text(encoding="utf-8") for file in Path(modeling.origin).parent.glob("families/*.py"))
    return any(f'"{model_type}"' in text.partition("FAMILIES.add(")[2] for text in texts)


def _refused_by_family(name: str, model_type: str, dtype: str) -> str | None:
    from modeling import FAMILIES, UnknownNameError

    try:
        family = FAMILIES[model_type]
    except UnknownNameError as error:
        return f"backbone {name!r} is not supported: {error}"
    reason = dict(family.refused_dtypes).get(dtype)
    return None if reason is None else f"backbone {name!r} cannot run in {dtype}: {reason}"


def _cannot(name: str, reason: str) -> str:
    return f"backbone {name!r} cannot be loaded: {reason}. {_REMEDY}"
