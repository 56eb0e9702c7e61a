"""Why a backbone cannot be served, as far as its folder tells before anything listens.

Knows config.json and the settings. A usual folder is let through without importing anything heavy; where
something is unusual, `modeling` is asked for its sentence, as the start would fail anyway. What only loading
shows (the weights' values, a hub) is left to the start.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import socket
from pathlib import Path

from .settings import Settings

_ANY_CAN = frozenset({"auto", "float32"})
_EMBEDDED = "minilm"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_TOKENIZER = "tokenizer.json"
_SOMETHING_ELSE = ("adapter_config.json", "modules.json")


def refusal(settings: Settings) -> str | None:
    """What is wrong with the backbone, with the remedy; None if nothing is known against it."""
    name = settings.backbone
    if name == _EMBEDDED or not (Path(name).exists() or _is_path(name)):
        return None
    if settings.dtype in _ANY_CAN and _is_usual(Path(name)):
        return None
    return _asked(name, settings.dtype)


def address_refusal(host: str, port: int) -> str | None:
    """Why nothing can listen there, with the remedy; None if it can. A look: the start listens itself."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = "stop what listens there, or choose another (--port, TRUNKLINE_PORT)"
            return f"port {port} of {host} is taken: {remedy}"
        return f"cannot listen on {host} port {port} ({error.strerror}): choose others (--host, --port)"
    return None


def _is_path(name: str) -> bool:
    """Whether a name cannot be that of a hub, which is `name` or `owner/name`."""
    return name.count(os.sep) > 1 or name.startswith((os.sep, ".", "~")) or name.endswith(os.sep)


def _is_usual(folder: Path) -> bool:
    """Whether it holds a model of a known family, weights and a tokenizer, and nothing that says more."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    model_type = config.get("model_type") if isinstance(config, dict) else None
    return (
        isinstance(model_type, str)
        and _registered(model_type)
        and any(_holds_something(folder / name) for name in _WEIGHTS)
        and _holds_something(folder / _TOKENIZER)
        and not any((folder / name).exists() for name in _SOMETHING_ELSE)
    )


def _holds_something(file: Path) -> bool:
    """Whether it is more than the pointer of a large-file store."""
    return file.is_file() and file.stat().st_size > 200  # bytes; a pointer has 130


def _registered(model_type: str) -> bool:
    """Whether a family's file says so: read, because the seconds of importing it would delay `/live`."""
    modeling = importlib.util.find_spec("modeling")
    assert modeling is not None
    assert modeling.origin is not None
    texts = (file.read_text(encoding="utf-8") for file in Path(modeling.origin).parent.glob("families/*.py"))
    return any(f'"{model_type}"' in text.partition("FAMILIES.add(")[2] for text in texts)


def _asked(name: str, dtype: str) -> str | None:
    from modeling import BackboneError
    from modeling.loading import look_at

    try:
        look_at(name, dtype)
    except BackboneError as error:
        return str(error)
    return None
