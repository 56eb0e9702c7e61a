"""The import contracts of pyproject.toml hold, and they cover every package and every pure file."""

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.architecture.sources import PACKAGES, PURE_MODULES, ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]


def _lint(cwd: Path, config: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", program, "--config", config, "--no-cache"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_the_contracts_hold() -> None:
    run = _lint(ROOT, "pyproject.toml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def test_the_contracts_cover_every_package_and_every_pure_file() -> None:
    layers, purity = SETTINGS["contracts"]
    assert {name.strip() for layer in layers["layers"] for name in layer.split("|")} == set(PACKAGES)
    assert set(purity["source_modules"]) == set(PURE_MODULES)
    assert set(SETTINGS["root_packages"]) == set(PACKAGES)


def test_a_sideways_import_is_reported(tmp_path: Path) -> None:
    for package in ("service", "training", "modeling"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "service" / "app.py").write_text("import training\n")
    (tmp_path / "contracts.toml").write_text(
        '[tool.importlinter]\nroot_packages = ["service", "training", "modeling"]\n'
        '[[tool.importlinter.contracts]]\nname = "direction"\ntype = "layers"\n'
        'layers = ["service | training", "modeling"]\n'
    )
    run = _lint(tmp_path, "contracts.toml")
    assert run.returncode == 1
    assert "service.app -> training" in run.stdout
