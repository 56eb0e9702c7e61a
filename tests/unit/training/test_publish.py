"""From tensors to an announced file: what is stored, what is checked, and what is left when a check fails."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_store import UPLOAD_LIMIT_BYTES, FileLimits
from adapters_store.adapter_file import read_adapter_file
from modeling import Backbone
from proof.check import CheckReport
from proof.errors import CheckFailed
from proof.fresh import check_in_fresh_process
from proof.replay import ProbeReport
from tests.unit.training.conftest import Told, agree, quick
from training.errors import ConfigError, PublishError
from training.loop.passes import Answered
from training.run import train


def publish(folder: Path, out: Path, backbone: Backbone, verify: Any = agree, **changes: Any) -> Any:
    return train(quick(folder, out, **changes), backbone=backbone, progress=Told(), verify=verify)


def test_a_file_that_is_refused_elsewhere_is_not_announced(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    out = tmp_path / "out" / "a.safetensors"

    def refuse(path: Path, name: str) -> CheckReport:
        raise CheckFailed(f"{path.name} was refused")

    with pytest.raises(PublishError, match="was refused"):
        publish(task_folder(), out, backbone, refuse)
    assert [path.name for path in out.parent.iterdir()] == ["a.safetensors.resume"]


def test_an_older_file_stays_until_the_new_one_is_checked(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    out = tmp_path / "a.safetensors"
    publish(task_folder(), out, backbone)
    before = out.read_bytes()

    def look(path: Path, name: str) -> CheckReport:
        assert out.read_bytes() == before
        assert path != out
        return agree(path, name)

    publish(task_folder(), out, backbone, look, seed=1)
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probes": ProbeReport(3, 0.0)}, "3 of 30 probes were replayed"),
        ({"digest": "sha256:other"}, "read sha256:other"),
    ],
)
def test_a_check_of_something_else_does_not_count(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, change: dict[str, Any], message: str
) -> None:
    def wrong(path: Path, name: str) -> CheckReport:
        found = agree(path, name)
        return replace(found, **change)

    with pytest.raises(PublishError, match=message):
        publish(task_folder(), tmp_path / "a.safetensors", backbone, wrong)
    assert not (tmp_path / "a.safetensors").exists()


def test_half_precision_files_are_measured_as_stored(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    publish(task_folder(), tmp_path / "full.safetensors", backbone)
    publish(task_folder(), tmp_path / "half.safetensors", backbone, file_dtype="float16")
    full, half = (read_adapter_file(tmp_path / f"{name}.safetensors") for name in ("full", "half"))
    assert half.size_bytes < full.size_bytes
    for name, tensor in half.tensors.items():
        torch.testing.assert_close(tensor, full.tensors[name].half().float())
    assert half.manifest.probes[0].logits != full.manifest.probes[0].logits


def test_half_precision_that_loses_the_task_is_refused(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.file import publish as module

    def zeros(*_: object) -> object:
        return Answered(torch.zeros(30, 3).numpy())

    monkeypatch.setattr(module, "stored_answers", zeros)
    with pytest.raises(PublishError, match=r"the tensors as stored \(float16\) give accuracy 0.3333"):
        publish(task_folder(), tmp_path / "a.safetensors", backbone, file_dtype="float16")


def test_a_file_that_a_server_does_not_take_is_told_before_and_after(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.safetensors"
    told = Told()
    monkeypatch.setattr("training.file.announce.UPLOAD_LIMIT_BYTES", 1_000)
    train(quick(task_folder(), out, seeds=2), backbone=backbone, progress=told, verify=agree)
    before, after = [note for note in told.notes if "--max-adapter-bytes" in note]
    assert before.startswith("the file will have about ")
    assert after.startswith(f"{out} has {out.stat().st_size:,} bytes; a server takes 1,000 unless")
    assert "TRUNKLINE_MAX_ADAPTER_BYTES" in after
    assert "--file-dtype float16 halves it" in after
    enough = int(after.partition("--max-adapter-bytes ")[2].split()[0])
    assert enough >= out.stat().st_size
    monkeypatch.undo()
    quiet = Told()
    train(quick(task_folder(), out), backbone=backbone, progress=quiet, verify=agree)
    assert not any("--max-adapter-bytes" in note for note in quiet.notes)


def test_a_file_that_nothing_could_read_is_refused_before_training(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, small = Told(), FileLimits(max_file_bytes=3_000, max_header_bytes=1_000)
    monkeypatch.setattr("training.file.announce.FileLimits", lambda: small)
    with pytest.raises(ConfigError, match="bytes; an adapter file holds at most 2,000: --file-dtype float16"):
        train(quick(task_folder(), tmp_path / "a", method="full"), backbone=backbone, progress=told)
    assert [stage for stage, _ in told.stages] == ["data"]


def test_a_server_takes_by_default_what_training_says() -> None:
    from service.settings import Settings

    assert Settings.model_fields["max_adapter_bytes"].default == UPLOAD_LIMIT_BYTES == 64 * 2**20


def test_provenance_is_enough_to_train_it_again(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    publish(task_folder(), tmp_path / "a.safetensors", backbone, seeds=2, description="Which third?")
    manifest = read_adapter_file(tmp_path / "a.safetensors").manifest
    config = manifest.provenance.config
    assert (config["lr"], config["epochs"], config["data"]) == (5e-3, 3, "single_sentence")
    assert config["warmup"] is not None
    assert manifest.provenance.seed in (0, 1)
    assert manifest.provenance.code_version.startswith("trunkline")
    assert manifest.description == "Which third?"
    assert manifest.metrics is not None
    assert manifest.metrics.data_digest.startswith("sha256:")


def test_a_regression_file_answers_in_the_units_of_the_data(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    publish(task_folder("regression"), tmp_path / "a.safetensors", backbone, epochs=8)
    manifest = read_adapter_file(tmp_path / "a.safetensors").manifest
    values = [probe.logits[0] for probe in manifest.probes]
    assert 3 < sum(values) / len(values) < 18  # train targets have mean 10.5, standardised ones 0
    assert (manifest.head.low, manifest.head.high) == pytest.approx((0.5, 20.5), abs=0.5)


class Process:
    """A finished process in place of `subprocess.run`."""

    def __init__(self, code: int, output: str, errors: str = "") -> None:
        self.returncode, self.stdout, self.stderr = code, output.encode(), errors.encode()
        self.command: list[str] = []

    def __call__(self, command: list[str], **_: Any) -> "Process":
        self.command = command
        return self


REPORT = CheckReport("demo", "hadamard", "single_label", ("a", "b"), "sha256:d", 9, ProbeReport(8, 1e-6))
GOOD = json.dumps(asdict(REPORT))


def test_the_fresh_process_is_the_service_of_the_same_python(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    process = Process(0, GOOD)
    monkeypatch.setattr("proof.fresh.subprocess.run", process)
    assert check_in_fresh_process(Path("a.safetensors"), "minilm") == REPORT
    assert process.command[:4] == [sys.executable, "-P", "-m", "proof"]
    assert process.command[4:] == [str(Path("a.safetensors").resolve()), "minilm"]


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (Process(1, "", "probes.3: got logits that differ"), "status 1: probes.3: got logits"),
        (Process(1, GOOD), "refused in a fresh process"),
        (Process(0, "no json"), "status 0: no json"),
        (Process(0, ""), "no output"),
        (Process(0, '{"probes": {"count": "x"}}'), "status 0"),
    ],
)
def test_a_fresh_process_that_fails(monkeypatch: pytest.MonkeyPatch, process: Process, message: str) -> None:
    monkeypatch.setattr("proof.fresh.subprocess.run", process)
    with pytest.raises(CheckFailed, match=message):
        check_in_fresh_process(Path("a.safetensors"), "minilm")


def test_a_fresh_process_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("service", 600)

    monkeypatch.setattr("proof.fresh.subprocess.run", hang)
    with pytest.raises(CheckFailed, match="took over 600 s"):
        check_in_fresh_process(Path("a.safetensors"), "minilm")
