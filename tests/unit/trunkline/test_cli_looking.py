"""`evaluate --errors` and `compare` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.world import save_backbone, tiny
from tests.unit.training.conftest import Told, agree, quick, write_task
from tests.unit.trunkline.conftest import Run
from training.run import train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a backbone and two files."""
    folder = tmp_path_factory.mktemp("looking")
    data, backbone = write_task(folder / "data", "single_sentence"), tiny()
    save_backbone(folder / "backbone")
    for name, changes in (("a", {"epochs": 1}), ("b", {"method": "linear_probe"})):
        config = quick(data, folder / f"{name}.safetensors", **changes)
        train(config, backbone=backbone, progress=Told(), verify=agree)
    return folder


def test_errors_are_written_beside_the_scores(made: Path, run: Run, tmp_path: Path) -> None:
    args = ["evaluate", str(made / "a.safetensors"), "--data", str(made / "data")]
    args += ["--backbone", str(made / "backbone"), "--json", "--rows"]
    done = run(*args, "--errors", str(tmp_path / "wrong.jsonl"))
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    wrong = [row["row"] for row in told["rows"] if row["label"] != row["expected"]]
    lines = [json.loads(line) for line in (tmp_path / "wrong.jsonl").read_text().splitlines()]
    assert sorted(line["row"] for line in lines) == wrong
    assert set(told["answering"]) == {"temperature", "before", "after", "threshold", "coverage", "error"}
    assert run(*args, "--errors", str(tmp_path / "wrong.html")).exit_code == 0
    assert "<!doctype html>" in (tmp_path / "wrong.html").read_text()


def test_a_wrong_ending_is_told_before_anything_is_asked(made: Path, run: Run) -> None:
    done = run("evaluate", str(made / "a.safetensors"), "--data", str(made / "data"), "--errors", "x.xlsx")
    assert done.exit_code != 0
    assert "allowed: a file that ends in .html, .csv, .jsonl" in done.stderr
    assert "backbone" not in done.stderr


def test_two_files_are_compared(made: Path, run: Run) -> None:
    args = ["compare", str(made / "a.safetensors"), str(made / "b.safetensors"), "--data", str(made / "data")]
    args += ["--split", "validation", "--backbone", str(made / "backbone")]
    page = run(*args, "--rows")
    assert page.exit_code == 0, page.output
    assert page.stdout.splitlines()[0].startswith("A      a.safetensors: hadamard, ")
    told = json.loads(run(*args, "--rows", "--json").stdout)
    assert page.stdout.splitlines()[-1] == told["verdict"]
    assert "McNemar's exact test: p = " in page.stdout
    agreement = told["agreement"]
    assert len(told["rows"]) == agreement["only_first"] + agreement["only_second"]
    assert "rows" not in json.loads(run(*args, "--json").stdout)
    missing = run(*args[:-4], "--backbone", str(made / "backbone"))
    assert missing.exit_code == 1
    assert "no test file; there are train, validation" in missing.stderr
