"""Whatever a person's folder holds, and whatever it is called: no file of it is ever imported."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

RAISES = "raise SystemExit('the current folder was searched for ' + __name__)"
EVERYTHING = """
import sys
import benchmarks, training.run, training.file.prune, training.file.evaluate, trunkline.client, trunkline.cli
import service.server, service.residency.catalog, service.api.predict, proof.check
of_people = {'__main__', 'site', 'sitecustomize', 'usercustomize'}
print(*{name.partition('.')[0] for name in sys.modules} - of_people)
"""
GUESSES = (
    "utils",
    "config",
    "models",
    "data",
    "queue",
    "test",
    "flash_attn",
    "tensorflow",
    "apex",
    "sentencepiece",
)


@cache
def imported_names() -> frozenset[str]:
    """What the program imports, and a few names besides that libraries look for."""
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return frozenset(done.stdout.split()) | {*GUESSES}


def fill(folder: Path, but: frozenset[str] = frozenset()) -> int:
    names = {name for name in imported_names() - but if name.isidentifier()}
    for name in names:
        (folder / f"{name}.py").write_text(RAISES)
    return len(names)


def run_in(folder: Path, *command: str, python_path: str = str(ROOT)) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": python_path, "TERM": "dumb"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def beyond_us(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """What the interpreter itself takes from the folder for `-m`, before it runs a line of the module."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.py").write_text("import sys; print(*{name.partition('.')[0] for name in sys.modules})")
    return frozenset(run_in(folder, "-m", "probe").stdout.split())


@pytest.mark.parametrize(
    ("program", "arguments", "says"),
    [
        ("trunkline", ("--version",), "trunkline "),
        ("trunkline", ("train", "--help"), "--method"),
        ("trunkline", ("serve", "--help"), "--store"),
        ("trunkline", ("methods", "--method", "hadamard", "--json"), '"hadamard"'),
        ("service", ("serve", "--help"), "--store"),
    ],
)
def test_run_as_a_module(
    tmp_path: Path, beyond_us: frozenset[str], program: str, arguments: tuple[str, ...], says: str
) -> None:
    """Only a folder's own `trunkline.py` is another matter: that is what `-m trunkline` asks Python for."""
    assert fill(tmp_path, beyond_us | {program}) > 150
    done = run_in(tmp_path, "-m", program, *arguments)
    assert "the current folder" not in done.stdout + done.stderr
    assert (done.returncode, done.stderr) == (0, "")
    assert says in done.stdout


@pytest.mark.parametrize("entry", ["", ".", "{here}"])
def test_run_as_a_command_with_the_folder_in_the_path(tmp_path: Path, entry: str) -> None:
    """`PYTHONPATH=$PYTHONPATH:/elsewhere` has an empty entry where nothing was set: the current folder."""
    started = {"re", "os", "sys"}
    done = subprocess.run(
        [sys.executable, "-c", "import re, sys; print(*{n.partition('.')[0] for n in sys.modules})"],
        capture_output=True,
        text=True,
        check=True,
    )
    fill(tmp_path, frozenset(done.stdout.split()) | started | {"trunkline"})
    script = tmp_path / "bin" / "trunkline"
    script.parent.mkdir()
    script.write_text("import re, sys\nfrom trunkline.__main__ import main\nsys.exit(main())\n")
    path = os.pathsep.join([entry.format(here=tmp_path), str(ROOT)])
    found = run_in(tmp_path, str(script), "train", "--help", python_path=path)
    assert (found.returncode, found.stderr) == (0, "")
    assert "--method" in found.stdout


def test_a_checkout_goes_on_working_as_a_module() -> None:
    """There the current folder is where the program is, and stays on the path."""
    done = run_in(ROOT, "-S", "-m", "trunkline.__main__", python_path="")  # no site: no installed copy of it
    assert "No module named 'typer'" in done.stderr, "it found its own package and no library"
    done = run_in(ROOT, "-m", "trunkline", "--version", python_path="")
    assert (done.returncode, done.stdout[:10]) == (0, "trunkline ")


def test_a_folder_that_is_part_of_the_installation_stays_on_the_path() -> None:
    for folder in {Path(os.__file__).parent, Path(pytest.__file__).parent.parent}:
        done = run_in(folder, "-m", "trunkline", "methods", "--method", "hadamard", "--json")
        assert (done.returncode, done.stderr) == (0, "")
