"""What must be true of the repository as a whole: no machine's paths, pinned versions, a whole Makefile."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, name_of, repository_files

MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:(?:work|root)/|home/(?!trunkline|me/)|opt/(?!venv))[a-z]")
TEXT_SUFFIXES = {
    "",
    ".cfg",
    ".css",
    ".html",
    ".ini",
    ".js",
    ".json",
    ".md",
    ".py",
    ".sh",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([0-9][A-Za-z0-9.]*)$")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    matches = [PIN.match(line) for line in lines if not line.startswith("#")]
    assert all(matches), "a line of constraints.txt is not NAME==VERSION"
    return {_canonical(match[1]): match[2] for match in matches if match}


def _requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    return [*PROJECT["dependencies"], *(requirement for group in extras.values() for requirement in group)]


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    texts = [path for path in repository_files() if path.suffix in TEXT_SUFFIXES]
    assert len(texts) > 20
    found = {name_of(path): MACHINE_PATHS.findall(path.read_text(errors="replace")) for path in texts}
    assert {name: hits for name, hits in found.items() if hits} == {}


@pytest.mark.parametrize("requirement", _requirements())
def test_every_requirement_is_pinned_within_its_range(requirement: str) -> None:
    name = re.split(r"[\[<>=!~ ]", requirement)[0]
    version = _pins().get(_canonical(name))
    assert version is not None, f"{name} has no version in constraints.txt"
    lowest = re.search(r">=([0-9.]+)", requirement)
    if lowest:
        assert _numbers(version) >= _numbers(lowest[1])


def test_no_pin_carries_a_local_label() -> None:
    assert not [version for version in _pins().values() if "+" in version]


def test_the_makefile_has_what_the_documents_name() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in (
        "setup",
        "demo",
        "test",
        "mutants",
        "check",
        "serve",
        "bench",
        "docs",
        "docker-verify",
        "clean",
        "help",
    ):
        assert re.search(rf"^  make {target} ", listed, re.MULTILINE), f"make {target} is not listed"


def test_the_licence_is_apache_2() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/architecture.md"]
)
def test_a_document_is_there(name: str) -> None:
    assert (ROOT / name).is_file()


def test_every_decision_says_what_was_rejected() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert records
    for path in records:
        _check_record(path)


def _check_record(path: Path) -> None:
    assert re.match(r"[0-9]{4}-[a-z0-9-]+\.md$", path.name)
    parts = re.findall(r"^(?:## |\*\*)(\w+)\.?(?:\*\*|$)", path.read_text(), re.MULTILINE)
    assert {"Context", "Decision", "Consequences", "Rejected"} <= set(parts), f"{path.name} has {parts}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))
