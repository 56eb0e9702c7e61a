"""What the logits of a file depend on beside its bytes: backbone, tokenizer, code, libraries, processor.

While all of it is the same, probes that were reproduced once are reproduced again; if anything is not,
nothing that was found before counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

from modeling import Backbone

_PACKAGES = ("failures", "adapters_store", "modeling", "proof")
_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
# Variables that make products round otherwise.
_VARIABLES = ("ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def circumstances(backbone: Backbone) -> str:
    """`sha256:` and a digest of everything, on this machine, for this backbone."""
    device = backbone.device
    found = {
        "family": backbone.family.name,
        "config": backbone.config_digest,
        "weights": backbone.weights_digest,
        "tokenizer": backbone.text.digest,
        "dtype": str(backbone.dtype),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "precision": torch.get_float32_matmul_precision(),
        "variables": [os.environ.get(name) for name in _VARIABLES],
        "libraries": [version(name) for name in _LIBRARIES],
        "code": _code_digest(),
    }
    return f"sha256:{hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()}"


@cache
def _code_digest() -> str:
    """Of our own files: the version of a package that is being changed stays the same."""
    digest = hashlib.sha256()
    for name, path in _code_files():
        data = path.read_bytes()
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _code_files() -> Iterator[tuple[str, Path]]:
    for package in _PACKAGES:
        root = Path(str(import_module(package).__file__)).parent
        for path in sorted(root.rglob("*")):
            if path.suffix in {".py", ".c", ".so"}:
                yield f"{package}/{path.relative_to(root).as_posix()}", path
