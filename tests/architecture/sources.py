"""Which files the architecture tests look at: the tracked ones, and new ones that git does not ignore."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("failures", "modeling", "adapters_store", "proof", "service", "training", "trunkline")
PROGRAMS = ("benchmarks", "docker", "examples", "scripts")
PURE_MODULES = (
    "service.engine.scheduler",
    "service.residency.cache",
    "adapters_store.manifest",
    "adapters_store.store",
)


def repository_files() -> list[Path]:
    """Every file that is or could be committed; without git (an archive) every file outside caches."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, check=False)
    if listed.returncode != 0:
        return [path for path in ROOT.rglob("*") if path.is_file() and not _is_hidden(path)]
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return sorted(path for path in paths if path.is_file())


def python_files(folders: Iterable[str]) -> list[Path]:
    """The Python files below the given top-level folders, in order."""
    wanted = set(folders)
    return [
        path for path in repository_files() if path.suffix == ".py" and name_of(path).split("/")[0] in wanted
    ]


def name_of(path: Path) -> str:
    """The path as people write it: relative to the repository, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)
