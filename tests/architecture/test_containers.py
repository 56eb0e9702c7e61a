"""The container files are valid and say what the project promises; no engine is needed for any of this.

The real thing (build, up, train, predict, restart, down) is `make docker-verify`.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.sources import PACKAGES, ROOT, name_of, repository_files

COMPOSE_FILES = ("docker-compose.yml", "docker-compose.gpu.yml")
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of this environment, or of the machine; skips the test where neither has it."""
    beside_python = Path(sys.executable).with_name(program)
    found = str(beside_python) if beside_python.exists() else shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed here")
    return subprocess.run(
        [found, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def _compose(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / name).read_text())
    assert isinstance(loaded, dict)
    return loaded


def _yaml_files() -> list[Path]:
    return [
        path for path in repository_files() if path.suffix in {".yml", ".yaml"} or path.name == ".yamllint"
    ]


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_a_compose_file_fits_the_specification(name: str) -> None:
    run = _run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", name)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_schema_refuses_an_unknown_key(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("services:\n  a:\n    image: b\n    no_such_key: 1\n")
    run = _run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(tmp_path / "bad.yml"))
    assert run.returncode == 1
    assert "no_such_key" in run.stdout


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run = _run("hadolint", "--config", ".hadolint.yaml", "Dockerfile")
    assert run.returncode == 0, run.stdout + run.stderr


def test_yamllint_finds_nothing() -> None:
    names = [name_of(path) for path in _yaml_files()]
    assert set(COMPOSE_FILES) <= set(names)
    run = _run("yamllint", "--strict", *names)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_old_compose_program_takes_the_files_too() -> None:
    """docker-compose 1.29 has stricter rules than the specification; checked wherever it is installed."""
    both = [part for name in COMPOSE_FILES for part in ("-f", name)]
    for arguments in (["-f", COMPOSE_FILES[0]], both):
        run = _run("docker-compose", *arguments, "config", "--quiet")
        assert run.returncode == 0, run.stdout + run.stderr


def test_the_port_is_published_to_this_machine_alone() -> None:
    ports = _compose(COMPOSE_FILES[0])["services"]["service"]["ports"]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_training_is_a_profile_that_waits_for_a_healthy_service() -> None:
    train = _compose(COMPOSE_FILES[0])["services"]["train"]
    assert train["profiles"] == ["train"]
    assert train["depends_on"]["service"]["condition"] == "service_healthy"
    source = train["volumes"][0].split(":-")[1].split("}")[0]
    assert (ROOT / source / train["command"][0]).exists(), (
        "the data that the train profile names is not there"
    )


def test_the_overlay_reserves_a_gpu_for_every_container() -> None:
    services = _compose(COMPOSE_FILES[1])["services"]
    assert set(services) == set(_compose(COMPOSE_FILES[0])["services"])
    for service in services.values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]


def test_the_image_holds_every_package_and_no_root_process() -> None:
    for package in PACKAGES:
        assert f"COPY {package} {package}\n" in DOCKERFILE
        assert f"!{package}\n" in (ROOT / ".dockerignore").read_text()
    user = [line for line in DOCKERFILE.splitlines() if line.startswith("USER ")]
    assert user
    assert not user[-1].startswith(("USER 0", "USER root"))
    assert "HEALTHCHECK" in DOCKERFILE


def test_the_dockerfile_stays_within_what_an_older_engine_parses() -> None:
    assert "<<EOF" not in DOCKERFILE
    assert "# syntax" not in DOCKERFILE


@pytest.mark.parametrize("name", ["scripts/verify_compose", "docker/train-and-push", ".ci/run"])
def test_a_shell_program_parses_and_may_be_run(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & 0o111, f"{name} is not executable"
    run = _run("bash", "-n", name)
    assert run.returncode == 0, run.stderr
