"""Builders of sound and of broken adapter files. L labels, H hidden."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from adapters_store import Manifest, write_adapter

ManifestDict = dict[str, Any]
BuildFile = Callable[..., bytes]


@pytest.fixture
def manifest_dict() -> ManifestDict:
    digest = "sha256:" + "0" * 64
    return {
        "schema_version": 1,
        "task": "intents",
        "description": "Which intent a message has",
        "created": "2026-01-31T12:00:00Z",
        "backbone": {
            "family": "bert",
            "name": "minilm",
            "config_digest": digest,
            "weights_digest": digest,
        },
        "method": {"name": "hadamard", "config": {"placement": "pre_dense", "layers": [0, 1]}},
        "head": {
            "kind": "single_label",
            "labels": ["billing", "outage", "other"],
            "pooling": "mean",
            "threshold": None,
            "low": None,
            "high": None,
        },
        "input": {"fields": ["text"], "max_tokens": 128, "truncation": "longest_first"},
        "metrics": {"split": "validation", "rows": 20, "values": {"accuracy": 0.9}, "data_digest": digest},
        "provenance": {"code_version": "0.1.0", "config": {"lr": 0.005}, "seed": 1},
        "probes": [
            {"text": f"text {index}", "text_pair": None, "logits": [0.5, -1.0, index / 7]}
            for index in range(8)
        ],
    }


@pytest.fixture
def manifest(manifest_dict: ManifestDict) -> Manifest:
    return Manifest.model_validate(manifest_dict)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """L = 3, H = 4, one tap."""
    generator = torch.Generator().manual_seed(0)
    return {
        "encoder.0.attn_context/scale": torch.randn(4, generator=generator),
        "encoder.0.attn_context/shift": torch.randn(4, generator=generator),
        "head/weight": torch.randn(3, 4, generator=generator),
        "head/bias": torch.randn(3, generator=generator),
    }


@pytest.fixture
def sound_file(manifest: Manifest, tensors: dict[str, torch.Tensor]) -> bytes:
    return write_adapter(manifest, tensors)


@pytest.fixture
def build_file(manifest_dict: ManifestDict) -> BuildFile:
    """Builds a file of any header, sound or not: `entries` change it (None removes), `data` are its bytes.

    Without changes it is sound: head/weight [3, 4] at 0..48 and head/bias [3] at 48..60.
    """

    def build(
        entries: dict[str, Any] | None = None,
        *,
        data: bytes = bytes(60),
        metadata: Any = ...,
        manifest: Any = ...,
        raw_header: bytes | None = None,
    ) -> bytes:
        text = json.dumps(manifest_dict) if manifest is ... else manifest
        header: dict[str, Any] = {
            "__metadata__": {"trunkline": text} if metadata is ... else metadata,
            "head/weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
            "head/bias": {"dtype": "F32", "shape": [3], "data_offsets": [48, 60]},
        }
        header |= entries or {}
        kept = {key: value for key, value in header.items() if value is not None}
        raw = json.dumps(kept).encode() if raw_header is None else raw_header
        raw += b" " * (-len(raw) % 8) if raw_header is None else b""
        return len(raw).to_bytes(8, "little") + raw + data

    return build
