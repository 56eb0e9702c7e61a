"""A task that withholds labels: trained, evaluated, served, asked by client, command line and file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters_store.adapter_file import read_adapter_file, write_adapter_file
from service.settings import Settings
from tests.integration.world import Live, save_backbone, tiny
from tests.unit.training.conftest import Told, agree, quick, write_task
from tests.unit.trunkline.conftest import Run
from training.file.evaluate import FileEvaluation, evaluate_file
from training.run import train
from trunkline import Client


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, FileEvaluation]:
    """A file that answers about half of its rows, its data, and what it answers without a server."""
    folder = tmp_path_factory.mktemp("task")
    data, out = write_task(folder / "data", "single_sentence"), folder / "demo.safetensors"
    backbone = tiny()
    train(quick(data, out, abstain=0.05, epochs=1), backbone=backbone, progress=Told(), verify=agree)
    file = read_adapter_file(out)
    scores = sorted(row.score for row in evaluate_file(out, data, backbone=backbone).rows)
    assert file.manifest.head.abstain is not None
    abstain = file.manifest.head.abstain.model_copy(update={"threshold": (scores[14] + scores[15]) / 2})
    head = file.manifest.head.model_copy(update={"abstain": abstain})
    write_adapter_file(out, file.manifest.model_copy(update={"head": head}), dict(file.tensors))
    return out, data, evaluate_file(out, data, backbone=backbone)


@pytest.fixture(scope="module")
def live(
    found: tuple[Path, Path, FileEvaluation], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("served")
    backbone = save_backbone(folder / "backbone")
    with Live(Settings(backbone=str(backbone), store=folder / "store", device="cpu")) as server:
        with Client(server.url) as client:
            client.push(found[0])
        yield server


def test_the_server_withholds_what_evaluation_says(
    found: tuple[Path, Path, FileEvaluation], live: Live
) -> None:
    _, _, evaluation = found
    with Client(live.url) as client:
        answers = client.predict("demo", [str(item) for item in evaluation.texts])
        (version,) = client.task("demo").versions
    assert [one.label for one in answers] == [row.label for row in evaluation.rows]
    assert [one.unknown for one in answers] == [row.unknown for row in evaluation.rows]
    assert sum(one.unknown for one in answers) == 15
    assert evaluation.answering.coverage == 0.5
    assert version.abstain is not None
    for one in answers:
        assert one.unknown == (one.score is not None and one.score < version.abstain["threshold"])
        assert len(one.scores) == 3


def test_the_command_line_says_unknown(
    found: tuple[Path, Path, FileEvaluation], live: Live, run: Run, tmp_path: Path
) -> None:
    rows, texts = found[2].rows, [str(item) for item in found[2].texts]
    withheld = next(index for index, row in enumerate(rows) if row.unknown)
    shown = run("predict", "--task", "demo", "--url", live.url, texts[withheld])
    assert f"unknown {rows[withheld].score:.4f}".split() == shown.stdout.split()[-2:]
    line = json.loads(run("predict", "--task", "demo", "--url", live.url, "--json", texts[withheld]).stdout)
    assert (line["label"], line["unknown"], len(line["scores"])) == (None, True, 3)

    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    done = run("predict", "--task", "demo", "--url", live.url, "-f", str(source), "-o", str(out))
    assert done.exit_code == 0, done.output
    with out.open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert [row["predicted_label"] for row in written] == [row.label or "" for row in rows]
    assert [row["predicted_unknown"] for row in written] == [str(row.unknown).lower() for row in rows]
    assert [row["predicted_error"] for row in written] == [""] * len(rows)


def test_evaluate_tells_coverage_and_error(
    found: tuple[Path, Path, FileEvaluation], run: Run, tmp_path: Path
) -> None:
    out, data, evaluation = found
    backbone = save_backbone(tmp_path / "backbone")
    page = run("evaluate", str(out), "--data", str(data), "--backbone", str(backbone), "--rows")
    assert page.exit_code == 0, page.output
    answered = [row for row in evaluation.rows if not row.unknown]
    wrong = sum(row.label != row.expected for row in answered) / len(answered)
    assert f"50.0% of the rows, {wrong:.1%} of them wrong" in page.stdout
    assert page.stdout.count(" unknown") == 15
    assert "calibration error" in page.stdout
    inspected = run("inspect", str(out)).stdout
    assert "logits over a temperature of" in inspected
    assert "no label under" in inspected
