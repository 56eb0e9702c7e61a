"""What is known against a backbone before anything listens: its folder, its family, the number format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modeling import FAMILIES
from service import preflight
from service.preflight import refusal
from service.settings import Settings


def _settings(folder: Path | str, dtype: Any = "auto") -> Settings:
    return Settings(backbone=str(folder), dtype=dtype)


def _folder(tmp_path: Path, **config: object) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
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
    assert "config.json cannot be read: [Errno 2] No such file" in (refusal(_settings(tmp_path)) or "")
    for broken in (b"{", b"\xff"):
        (tmp_path / "config.json").write_bytes(broken)
        assert "config.json cannot be read: " in (refusal(_settings(tmp_path)) or "")


def test_a_config_without_a_type_is_left_to_the_start(tmp_path: Path) -> None:
    assert refusal(_settings(_folder(tmp_path))) is None
    (tmp_path / "config.json").write_text("[]")
    assert refusal(_settings(tmp_path)) is None


def test_an_unsupported_family_names_the_known_ones(tmp_path: Path) -> None:
    told = refusal(_settings(_folder(tmp_path, model_type="gpt2"))) or ""
    assert "unknown family 'gpt2'; known: " in told
    assert all(name in told for name in FAMILIES)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16"])
def test_a_family_refuses_what_it_cannot_run_in(tmp_path: Path, name: str, dtype: str) -> None:
    reason = dict(FAMILIES[name].refused_dtypes).get(dtype)
    told = refusal(_settings(_folder(tmp_path, model_type=name), dtype))
    if reason is None:
        assert told is None
    else:
        assert told == f"backbone {str(tmp_path)!r} cannot run in {dtype}: {reason}"
    assert "float16" in dict(FAMILIES["t5"].refused_dtypes), "there is one to refuse"


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
