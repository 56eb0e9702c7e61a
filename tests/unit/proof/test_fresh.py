"""The check in a process of its own imports nothing from the folder in which it is started."""

import os
from pathlib import Path

import pytest

from proof.errors import CheckFailed
from proof.fresh import check_in_fresh_process

SAYS = "print('the current folder was searched')"


@pytest.mark.parametrize("named", ["", ".", "{here}"])
def test_the_current_folder_has_no_part_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    for name in ("safetensors", "proof", "typer"):
        (tmp_path / f"{name}.py").write_text(SAYS)
    monkeypatch.chdir(tmp_path)
    entry = named.format(here=tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([entry, "elsewhere"]))
    (tmp_path / "no.safetensors").write_bytes(b"no adapter")
    with pytest.raises(CheckFailed) as error:
        check_in_fresh_process(tmp_path / "no.safetensors", "minilm")
    assert "current folder" not in str(error.value)
    assert "header: got" in str(error.value)
