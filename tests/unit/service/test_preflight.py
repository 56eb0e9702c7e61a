"""What is known against a backbone before anything listens: its folder, its family, the number format."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modeling import FAMILIES
from service import preflight
from service.preflight import address_refusal, refusal
from service.settings import Settings
from tests.folders import save_backbone, without_tokenizer


def _settings(folder: Path | str, dtype: Any = "auto") -> Settings:
    return Settings(backbone=str(folder), dtype=dtype)


def _folder(tmp_path: Path, **config: object) -> Path:
    """A folder that looks whole from outside, with this config."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text(" " * 1000)
    (tmp_path / "model.safetensors").write_text(" " * 1000)
    return tmp_path


@pytest.mark.parametrize("name", ["minilm", "t5-base", "some-owner/some-model"])
@pytest.mark.parametrize("dtype", ["auto", "float16"])
def test_nothing_is_known_of_what_has_no_folder(name: str, dtype: str) -> None:
    assert refusal(_settings(name, dtype)) is None


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder", "models/of/mine", "models/"])
def test_a_path_that_is_not_there(name: str) -> None:
    told = refusal(_settings(name))
    assert told is not None
    assert told.startswith(f"backbone {name!r} cannot be loaded: there is no such directory. Give 'minilm', ")


def test_a_folder_without_a_config_or_with_a_broken_one(tmp_path: Path) -> None:
    assert "there is no config.json; found nothing" in (refusal(_settings(tmp_path)) or "")
    for broken in (b"{", b"\xff"):
        (tmp_path / "config.json").write_bytes(broken)
        assert "config.json cannot be read: " in (refusal(_settings(tmp_path)) or "")
    for silent in (b"{}", b"[]"):
        (tmp_path / "config.json").write_bytes(silent)
        assert "cannot be loaded: config.json h" in (refusal(_settings(tmp_path)) or "")


def test_an_unsupported_family_names_the_known_ones(tmp_path: Path) -> None:
    told = refusal(_settings(_folder(tmp_path, model_type="gpt2"))) or ""
    assert "unknown family 'gpt2'; known: " in told
    assert all(name in told for name in FAMILIES)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16"])
def test_a_family_refuses_what_it_cannot_run_in(tmp_path: Path, name: str, dtype: str) -> None:
    reason = dict(FAMILIES[name].refused_dtypes).get(dtype)
    folder = save_backbone(tmp_path, name)
    told = refusal(_settings(folder, dtype))
    if reason is None:
        assert told is None
    else:
        assert told == f"backbone {str(folder)!r} cannot be loaded: it cannot run in {dtype}: {reason}"
    assert "float16" in dict(FAMILIES["t5"].refused_dtypes), "there is one to refuse"


def test_what_is_no_model_is_told_before_anything_listens(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "bert")
    assert refusal(_settings(folder)) is None
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert "the pointer of a large-file store" in (refusal(_settings(folder)) or "")
    without_tokenizer(folder)
    assert "there is no tokenizer" in (refusal(_settings(folder)) or "")
    (folder / "adapter_config.json").write_text("{}")
    assert "holds a PEFT adapter" in (refusal(_settings(folder)) or "")
    assert "it is a file" in (refusal(_settings(folder / "config.json")) or "")


def test_the_transformer_of_a_sentence_transformers_folder_is_looked_at(tmp_path: Path) -> None:
    part = save_backbone(tmp_path / "0_Transformer", "bert")
    modules = [{"type": "sentence_transformers.models.Transformer", "path": part.name}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert refusal(_settings(tmp_path)) is None
    (part / "model.safetensors").unlink()
    assert "there are no weights" in (refusal(_settings(tmp_path)) or "")


def test_families_are_found_without_a_look_and_can_run_in_every_format_that_needs_none() -> None:
    assert all(map(preflight._registered, FAMILIES))
    assert not any(map(preflight._registered, ("gpt2", "base", "__init__", "", ".*", "deberta_v2")))
    for _, family in FAMILIES.items():
        assert not set(dict(family.refused_dtypes)) & preflight._ANY_CAN


def test_a_usual_start_imports_no_torch_for_it(tmp_path: Path) -> None:
    folder = _folder(tmp_path, model_type="xlm-roberta")
    code = (
        "import sys; from service.preflight import refusal; from service.settings import Settings; "
        f"assert refusal(Settings(backbone={str(folder)!r})) is None; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_address_that_is_taken_or_not_ours_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = address_refusal("127.0.0.1", port)
        assert told is not None
        assert told.startswith(f"port {port} of 127.0.0.1 is taken: stop what listens there")
    assert address_refusal("127.0.0.1", port) is None
    assert "cannot listen on 192.0.2.1 port" in (address_refusal("192.0.2.1", port) or "")
