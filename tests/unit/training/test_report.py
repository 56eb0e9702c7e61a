"""The page about a run: what stands on it is what was measured, for every kind; and nothing on it acts."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modeling import Backbone
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, make_rows, quick, write_rows, write_text_task
from tests.unit.training.entities import write_entities
from tests.unit.training.pages import Read, read_page
from tests.unit.training.test_free_text import write_answers
from training.data.load import load_data
from training.errors import ConfigError
from training.file.evaluate import evaluate_file
from training.file.wrong_rows import write_errors
from training.loop.encode import encode_split
from training.loop.fit import EpochRecord
from training.report.drawing import Series, histogram, lines, ticks
from training.report.page import Page, Section, Table, columns, page_path, rendered
from training.report.shown import shown, visible
from training.report.write import training_page
from training.run import train

NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><h2>Fake</h2>",
    "{{ 7 * 7 }} {% raw %}",
    "bell\x07 nul\x00 escape\x1b[31m",
    "price \u202eelpmaxe\u202c and \u2066isolate\u2069",
    "zero\u200bwidth",
    "&lt; already",
]


def _page(path: Path) -> Read:
    return read_page(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "kind", ["single_sentence", "sentence_pair", "regression", "multi_label", "multiple_choice"]
)
def test_a_page_has_what_its_kind_has(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, kind: str
) -> None:
    folder = tmp_path / "report"
    config = quick(task_folder(kind), tmp_path / "a.safetensors", report=str(folder), seeds=2)
    result = train(config, backbone=backbone, progress=Told(), verify=agree)
    assert [path.name for path in folder.iterdir()] == ["demo.html"]
    page = _page(folder / "demo.html")
    labels = kind in ("single_sentence", "sentence_pair", "multi_label")
    assert ("By label" in page.tables) == labels
    assert ("Confusion matrix" in page.words) == (labels and kind != "multi_label")
    assert ("Answers against the data" in page.words) == (kind == "regression")
    assert ("Reliability" in page.words) == (kind != "regression")
    assert ("Rows furthest off" in page.words) == (kind == "regression")
    head, first, *_ = page.tables["Scores"]
    assert head == ["metric", result.baseline.name, "head alone", "hadamard"]
    assert first[0] == result.metric
    assert first[-1] == f"{result.value:.4f}"
    assert f"{result.metric} over 2 seeds" in page.words["Scores"]
    assert ["lr", "0.005"] in page.tables["Settings"]
    assert str(tmp_path) not in (folder / "demo.html").read_text()


def test_free_text_has_the_general_sections(tmp_path: Path) -> None:
    config = quick(
        write_answers(tmp_path / "data"),
        tmp_path / "a.safetensors",
        report=str(tmp_path / "p.html"),
        form="text-to-text",
        kind="free_text",
        method="bitfit",
    )
    train(config, backbone=tiny_backbone("t5"), progress=Told(), verify=agree)
    page = _page(tmp_path / "p.html")
    assert {"Scores", "Lengths", "Settings"} <= page.words.keys() | page.tables.keys()
    assert "By label" not in page.tables


def test_text_to_text_is_shown_by_the_names_of_the_data(tmp_path: Path) -> None:
    folder = write_text_task(tmp_path / "data")
    config = quick(
        folder,
        tmp_path / "a.safetensors",
        report=str(tmp_path / "p.html"),
        form="text-to-text",
        method="bitfit",
        targets="words",
    )
    train(config, backbone=tiny_backbone("t5"), progress=Told(), verify=agree)
    page = _page(tmp_path / "p.html")
    assert sorted(page.column("By label", "label")) == ["w1", "w30", "w60"]
    assert "none of them can be suspected" in page.words["Suspected label errors"]


def test_tables_are_those_of_the_held_out_rows(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    config = quick(task_folder(), tmp_path / "a.safetensors", report=str(tmp_path), epochs=1)
    result = train(config, backbone=backbone, progress=Told(), verify=agree)
    page = _page(tmp_path / "demo.html")
    assert sorted(page.column("By label", "wanted")) == ["10", "10", "10"]
    wrong = round((1 - result.metrics["accuracy"]) * 30)
    assert wrong > 2
    assert len(page.tables["Wrong rows"]) == 1 + wrong
    assert sum(map(int, page.column("Most confused pairs", "rows"))) == wrong
    scores = [float(score) for score in page.column("Wrong rows", "score")]
    assert scores == sorted(scores, reverse=True)
    losses = [float(loss) for loss in page.column("By label", "mean loss")]
    assert losses == sorted(losses, reverse=True)
    for expected, answered in zip(
        page.column("Wrong rows", "expected"), page.column("Wrong rows", "answered"), strict=True
    ):
        assert expected != answered
    found = result.calibration
    assert found.before is not None
    assert found.after is not None
    assert f"without temperature: {found.before.calibration_error:.4f}" in page.words["Reliability"]
    assert f"with temperature: {found.after.calibration_error:.4f}" in page.words["Reliability"]
    assert "train: 0 of 60 texts (0.0%) are longer than 32 tokens" in page.words["Lengths"]


def test_a_choice_is_shown_by_its_text(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    folder = task_folder("multiple_choice")
    config = quick(folder, tmp_path / "a.safetensors", report=str(tmp_path), epochs=1)
    train(config, backbone=backbone, progress=Told(), verify=agree)
    page = _page(tmp_path / "demo.html")
    rows = zip(*(page.column("Wrong rows", name) for name in ("text", "expected", "answered")), strict=True)
    for text, expected, answered in rows:
        assert expected in text.split("\n— ")[1:]
        assert answered in text.split("\n— ")[1:]


def _nasty_task(folder: Path) -> Path:
    for split, seed in (("train", 1), ("validation", 2)):
        rows = make_rows("single_sentence", 60, seed)
        for index, text in enumerate(NASTY):
            rows[index]["text"] = f"{text} {rows[index]['text']}"
            rows[index]["label"] = (rows[index]["label"] + 1) % 3  # so that it is answered wrongly
        write_rows(folder / f"{split}.jsonl", [{**row, "label": f"<b>{row['label']}</b>"} for row in rows])
    return folder


def test_nothing_of_a_row_acts_or_hides(tmp_path: Path, backbone: Backbone) -> None:
    config = quick(_nasty_task(tmp_path / "data"), tmp_path / "a.safetensors", report=str(tmp_path))
    result, data = train(config, backbone=backbone, progress=Told(), verify=agree), load_data(config)
    wrong = np.eye(3, dtype=np.float32)[(np.array(data.validation.targets) + 1) % 3]
    result = replace(result, evaluation=replace(result.evaluation, logits=wrong))
    rows = encode_split(backbone, data.validation, data.task, 32, 0, "unit")
    html = rendered(training_page(config, data, (rows, rows), result))
    page = read_page(html)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
    assert not {"img", "b", "iframe", "link", "object"} & {tag for tag, _ in page.tags}
    assert "Fake" not in page.tables
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<b>0</b>" in page.column("By label", "label")
    texts = "\n".join(page.column("Wrong rows", "text"))
    assert "{{ 7 * 7 }} {% raw %}" in texts
    assert "⟨U+202E⟩elpmaxe⟨U+202C⟩ and ⟨U+2066⟩isolate" in texts
    assert "bell⟨U+0007⟩ nul⟨U+0000⟩ escape⟨U+001B⟩[31m" in texts
    assert "zero⟨U+200B⟩width" in texts
    assert "&lt; already" in texts
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)


def test_the_page_asks_nobody_for_anything(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    config = quick(task_folder(), tmp_path / "a.safetensors", report=str(tmp_path))
    train(config, backbone=backbone, progress=Told(), verify=agree)
    html = (tmp_path / "demo.html").read_text(encoding="utf-8")
    page = read_page(html)
    for _, attributes in page.tags:
        assert not {"src", "action", "srcset"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|https?://", html)
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "prefers-color-scheme: dark" in html


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed here")
def test_the_script_is_sound() -> None:
    script = Path(__file__).parents[3] / "training" / "report" / "page.js"
    assert subprocess.run(["node", "--check", str(script)], check=False).returncode == 0


def test_the_script_is_the_one_that_the_policy_allows() -> None:
    import base64
    import hashlib

    html = rendered(Page("t", (), [Section("s", tables=(Table(columns("a"), [("b",)]),))]))
    script = html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;".replace("&#39;", "'") in html


def test_where_a_page_goes(tmp_path: Path) -> None:
    assert page_path("reports", "demo") == Path("reports/demo.html")
    assert page_path("reports/mine.html", "demo") == Path("reports/mine.html")
    (tmp_path / "odd.html").mkdir()
    assert page_path(str(tmp_path / "odd.html"), "demo") == tmp_path / "odd.html" / "demo.html"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb", "a\nb"),
        ("\u200d joiner \u200c", "\u200d joiner \u200c"),
        ("\ufeffx", "⟨U+FEFF⟩x"),
        ("half an emoji \ud83d", "half an emoji ⟨U+D83D⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("नमस्ते שלום 👩‍💻", "नमस्ते שלום 👩‍💻"),
    ],
)
def test_what_is_visible(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_a_long_text_is_cut_and_says_so() -> None:
    assert str(shown("x" * 2_001)).endswith("x… (the first 2,000 of 2,001 characters)")
    assert str(shown(["a", "b"])) == "a, b"
    assert str(shown([])) == "none"


def test_wrong_rows_are_capped_and_the_cap_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: Backbone, task_folder: Callable[..., Path]
) -> None:
    from training.report import sections

    monkeypatch.setattr(sections, "ROWS_SHOWN", 2)
    config = quick(task_folder(), tmp_path / "a.safetensors", report=str(tmp_path), epochs=1)
    train(config, backbone=backbone, progress=Told(), verify=agree)
    page = _page(tmp_path / "demo.html")
    assert len(page.tables["Wrong rows"]) == 3
    assert "the first 2 are shown" in page.words["Wrong rows"]


def test_lines_leave_out_what_is_no_number() -> None:
    svg = str(lines("loss", [Series("train", [(0, float("nan")), (1, 2.0), (2, 1.0)])], "epoch", "loss"))
    assert "nan" not in svg
    assert svg.count("<circle") == 2


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.28, 0.33), (-3, 12_000), (5, 5.001)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    assert np.allclose(np.diff(found), found[1] - found[0])


def test_a_histogram_of_one_length_is_drawn() -> None:
    assert "<rect" in str(histogram("lengths", [7, 7], 128, "tokens", "texts"))


def test_a_stage_without_epochs_has_no_curve(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    from training.report.write import _curves

    result = train(
        quick(task_folder(), tmp_path / "a.safetensors"), backbone=backbone, progress=Told(), verify=agree
    )
    assert list(_curves(replace(result, history=()))) == []
    one = EpochRecord("head", 0, None, 1.0, {"accuracy": 0.5})
    (section,) = _curves(replace(result, history=(one,)))
    assert len(section.figures) == 2


def test_a_page_that_cannot_be_written_is_told_before_anything_is_trained(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    (tmp_path / "file").write_text("")
    told = Told()
    config = quick(task_folder(), tmp_path / "a.safetensors", report=str(tmp_path / "file" / "page.html"))
    with pytest.raises(ConfigError, match=r"report is '.*page.html', whose folder cannot be made"):
        train(config, backbone=backbone, progress=told, verify=agree)
    assert told.stages == []


def test_where_the_page_went_is_told(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    told = Told()
    config = quick(task_folder(), tmp_path / "a.safetensors", report=str(tmp_path / "new"))
    train(config, backbone=backbone, progress=told, verify=agree)
    assert told.notes[-1] == f"{tmp_path / 'new' / 'demo.html'}: a page about this run"


def test_entities_are_shown_by_label_and_place(tmp_path: Path, backbone: Backbone) -> None:
    folder, out = write_entities(tmp_path / "data"), tmp_path / "a.safetensors"
    config = quick(folder, out, report=str(tmp_path), epochs=1)
    result = train(config, backbone=backbone, progress=Told(), verify=agree)
    page = _page(tmp_path / "demo.html")
    assert len(page.tables["By label"]) > 1
    right = evaluate_file(out, folder, backbone=backbone).judged.right
    assert right is not None
    assert len(page.tables.get("Wrong rows", [[]])) - 1 == int((~right).sum())
    assert all(
        re.fullmatch(r"none|(\w+ \d+–\d+(, )?)+", cell) for cell in page.column("Wrong rows", "expected")
    )
    assert result.calibration.temperature is None
    write_errors(tmp_path / "e.jsonl", evaluate_file(out, folder, backbone=backbone))
    assert len((tmp_path / "e.jsonl").read_text().splitlines()) == int((~right).sum())
