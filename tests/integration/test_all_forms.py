"""Tasks of every form on one server: rows mixed at random, and one file of rows asked of all that read it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from modeling import Abstention, Backbone, HeadSpec, kind_of
from service.settings import Settings
from tests.conformance.checks import WORD_SPECS
from tests.integration.forms import Item, Served, item_of, logits_alone, served
from tests.integration.world import TEXTS, Live, assert_close
from trunkline.cli import app

MOODS = ("sad", "glad", "calm")
SPECS = {
    "mood": ("lora", HeadSpec("single_label", MOODS, "unit", temperature=2.5)),
    "tags": ("bitfit", HeadSpec("multi_label", ("a", "b"), threshold=0.4, temperature=0.5)),
    "names": ("hadamard", WORD_SPECS[0]),
    "spans": ("full", WORD_SPECS[0]),
    "near": ("compacter", HeadSpec("similarity", (), low=1.0, high=5.0)),
    "agree": ("ia3", HeadSpec("single_label", ("no", "yes"), "apart", temperature=0.7)),
    "likeness": ("prompt_tuning", HeadSpec("regression", ("n",), "apart")),
    "pick": ("ln_tuning", HeadSpec("multiple_choice", ("choice",), temperature=3.0)),
}
WITHHOLD = ("mood", "agree", "pick")
ONE_TEXT, TWO_TEXTS = ("mood", "tags", "names", "spans", "near"), ("agree", "likeness", "near")


def withheld(task: Served, backbone: Backbone) -> HeadSpec:
    """The spec with the threshold that about half of the first items are under."""
    items = [item_of(task.spec, number) for number in range(9)]
    scores = sorted(decided(task.spec, logits_alone(backbone, task.adapter, one), one).score for one in items)
    return replace(task.spec, abstain=Abstention((scores[3] + scores[4]) / 2, 0.1, 0.5, 0.0, 0.1, 9))


def decided(spec: HeadSpec, logits: list[float], item: Item) -> Any:
    """What the kind says of the logits of one item, as any caller of it is answered."""
    brought = [item["choices"]] if isinstance(item, dict) and "choices" in item else [()]
    (answer,) = kind_of(spec).decide(spec, np.array([logits], dtype=np.float64), None, brought)
    return answer


@pytest.fixture(scope="module")
def tasks(backbone: Backbone) -> dict[str, Served]:
    found = {}
    for seed, (name, (method, spec)) in enumerate(SPECS.items()):
        found[name] = served(backbone, name, method, spec, seed=seed)
        if name in WITHHOLD:
            found[name] = served(backbone, name, method, withheld(found[name], backbone), seed=seed)
    return found


@pytest.fixture(scope="module")
def live(
    backbone_folder: Path, tasks: dict[str, Served], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    store = tmp_path_factory.mktemp("forms") / "store"
    with Live(Settings(backbone=str(backbone_folder), store=store, device="cpu")) as server:
        for task in tasks.values():
            response = server.push(task.name, task.data)
            assert response.status_code == 201, response.text
        yield server


def test_rows_of_all_forms_in_the_same_batches(
    live: Live, tasks: dict[str, Served], backbone: Backbone
) -> None:
    """As each row alone in the training form, under the file's own temperature and threshold."""
    cells = [(name, item_of(task.spec, number)) for name, task in tasks.items() for number in range(9)]
    random.Random(0).shuffle(cells)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda cell: live.predict(cell[0], [cell[1]], raw=True), cells))
    unknown = dict.fromkeys(tasks, 0)
    for (name, item), answer in zip(cells, answers, strict=True):
        (got,) = answer["predictions"]
        wanted = logits_alone(backbone, tasks[name].adapter, item)
        assert_close(np.ravel(got["logits"]), wanted)
        unknown[name] += got.get("unknown", False)
        if name in ("names", "spans"):
            continue
        expected = decided(tasks[name].spec, wanted, item)
        assert (got["label"], got.get("unknown", False)) == (expected.label, expected.unknown)
        assert got["score"] == pytest.approx(expected.score, abs=1e-5)
        assert got["scores"] == pytest.approx(expected.scores, abs=1e-5)
        assert got.get("index") == expected.choice
    assert {name for name, count in unknown.items() if count} == {*WITHHOLD}
    assert all(0 < unknown[name] < 9 for name in WITHHOLD)


def asked(live: Live, names: tuple[str, ...], rows: list[dict[str, str]], out: Path) -> None:
    source = out.with_name("rows.jsonl")
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tasks = [part for name in names for part in ("--task", name)]
    done = CliRunner().invoke(app, ["predict", *tasks, "-f", str(source), "-o", str(out), "--url", live.url])
    assert done.exit_code == 0, done.output


def test_a_file_of_texts_has_the_columns_of_every_form(live: Live, tmp_path: Path) -> None:
    """Labels and whether they are withheld, entities, and embeddings, as over HTTP; in a typed file."""
    texts = TEXTS[:12]
    asked(live, ONE_TEXT, [{"text": text} for text in texts], tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    facts = {name.split(".")[1] for name in table.column_names if "." in name and name.startswith("mood.")}
    assert facts == {"label", "unknown", "score", "version", "error"}
    assert not [
        name for name in table.column_names if name.endswith(".unknown") and not name.startswith("mood")
    ]
    assert {"near.label", "near.score", "names.embedding", "mood.entities"}.isdisjoint(table.column_names)
    columns = table.to_pydict()
    for result in live.predict(list(ONE_TEXT), texts)["results"]:
        name, predictions = result["task"], result["predictions"]
        if name == "near":
            assert_close(columns["near.embedding"], [one["embedding"] for one in predictions])
            continue
        assert columns[f"{name}.label"] == [one["label"] for one in predictions]
        assert columns[f"{name}.score"] == pytest.approx([one["score"] for one in predictions], abs=1e-5)
        if name in ("names", "spans"):
            found = [[(e["start"], e["label"]) for e in row] for row in columns[f"{name}.entities"]]
            assert found == [[(e["start"], e["label"]) for e in one["entities"]] for one in predictions]
        if name == "mood":
            assert columns["mood.unknown"] == [one.get("unknown", False) for one in predictions]
            assert 0 < sum(columns["mood.unknown"]) < len(texts)


def test_a_file_of_pairs_has_scores_of_similarities(live: Live, tmp_path: Path) -> None:
    rows = [{"text": TEXTS[n], "text_pair": TEXTS[n + 20]} for n in range(12)]
    asked(live, TWO_TEXTS, rows, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    results = {one["task"]: one["predictions"] for one in live.predict(list(TWO_TEXTS), rows)["results"]}
    assert not any(name in lines[0] for name in ("near.embedding", "likeness.unknown", "likeness.label"))
    for place, line in enumerate(lines):
        for name in TWO_TEXTS:
            assert line[f"{name}.score"] == pytest.approx(results[name][place]["score"], abs=1e-5)
        assert line["agree.label"] == results["agree"][place]["label"]
        assert line["agree.unknown"] == results["agree"][place].get("unknown", False)
