"""Entities the whole way: trained, measured, published, checked as an upload is, evaluated as served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_store import read_adapter_file, write_adapter
from modeling import Backbone
from proof.candidate import examine
from proof.check import CheckReport, check_file
from proof.errors import Refused
from tests.conformance.options import tiny_options
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, quick, write_rows
from tests.unit.training.entities import make_rows, write_entities
from tests.unit.training.pages import read_page
from training.data.load import load_data
from training.errors import ConfigError
from training.file.evaluate import evaluate_file
from training.metrics.scores import demand_metric
from training.metrics.spans import SPANS, counts_of, span_scores
from training.report.result import TrainResult
from training.rows.examples import Span, WordSpans
from training.run import train
from training.tasks.token_labels import TokenLabels

TAGS = ("O", "B-even", "I-even", "B-odd", "I-odd")
TASK = TokenLabels.build(("even", "odd"), demand_metric("f1", SPANS, TAGS), None)


def trained(folder: Path, backbone: Backbone, **changes: Any) -> tuple[TrainResult, Path, Told]:
    told, out = Told(), folder / "a.safetensors"

    def verify(path: Path, _: str) -> CheckReport:
        return check_file(path.read_bytes(), backbone)

    config = quick(write_entities(folder / "data"), out, **{"epochs": 1, **changes})
    return train(config, backbone=backbone, progress=told, verify=verify), out, told


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("bert", "linear_probe"),
        ("bert", "hadamard"),
        ("roberta", "prompt_tuning"),
        ("t5", "lora"),
        ("bart", "bitfit"),
    ],
)
def test_from_rows_to_answers(tmp_path: Path, family: str, method: str) -> None:
    backbone = tiny_backbone(family)
    result, out, _ = trained(tmp_path, backbone, method=method, method_config=tiny_options(method))
    assert (result.kind, result.metric, result.labels) == ("token_labels", "span_f1", TAGS)
    assert result.value > 0.4 > result.baseline.values["span_f1"] == 0.0
    assert result.hyper["pooling"] == "first"

    report = check_file(out.read_bytes(), backbone)
    assert (report.kind, report.labels, report.probes.count) == ("token_labels", TAGS, 32)
    assert report.probes.max_difference < 1e-4

    found = evaluate_file(out, tmp_path / "data", backbone=backbone)
    assert found.metrics == pytest.approx(result.metrics)
    rows = make_rows(40, 2)
    right = told = both = 0
    for row, wanted in zip(found.rows, rows, strict=True):
        assert row.expected == wanted["entities"]
        assert row.entities is not None
        assert all(one["text"] == wanted["text"][one["start"] : one["end"]] for one in row.entities)
        own = [(one["start"], one["end"], one["label"]) for one in row.entities]
        gold = [(one["start"], one["end"], one["label"]) for one in wanted["entities"]]
        right, told, both = right + len(gold), told + len(own), both + len(set(own) & set(gold))
        assert len(row.logits) == 5 * len(backbone.text.encode([wanted["text"]], words=True)[0].words)
    assert found.value == pytest.approx(2 * both / (right + told))


def test_the_stored_probes_are_the_first_words_of_rows(tmp_path: Path, backbone: Backbone) -> None:
    _, out, _ = trained(tmp_path, backbone, method="linear_probe")
    texts = {row["text"] for row in make_rows(40, 2)}
    for probe in read_adapter_file(out).manifest.probes:
        (row,) = backbone.text.encode([probe.text], words=True)
        assert probe.text in texts
        assert probe.words == [[word.start, word.end] for word in row.words]
        assert len(probe.logits) == 5 * len(row.words)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda probe: probe | {"words": [[0, 1], *probe["words"][1:]]}, "manifest.probes.0.words.0"),
        (
            lambda probe: (
                probe | {"words": [*probe["words"], [90, 91]], "logits": [*probe["logits"], *[0.0] * 5]}
            ),
            "words.",
        ),
        (lambda probe: {name: probe[name] for name in probe if name != "words"}, "manifest.probes.0.words"),
        (lambda probe: probe | {"logits": probe["logits"][1:]}, "probes.0.logits"),
        (lambda probe: probe | {"logits": [9.0, *probe["logits"][1:]]}, "probes.0"),
    ],
    ids=["another law of words", "more words", "no words", "too few logits", "other logits"],
)
def test_probes_that_do_not_fit_are_refused(
    tmp_path: Path, backbone: Backbone, change: Any, field: str
) -> None:
    _, out, _ = trained(tmp_path, backbone, method="linear_probe")
    stored = read_adapter_file(out)
    plain = stored.manifest.model_dump()
    plain["probes"][0] = change(plain["probes"][0])
    with pytest.raises((Refused, ValueError), match=field):
        data = write_adapter(type(stored.manifest).model_validate(plain), stored.tensors)
        check_file(data, backbone)


def test_long_texts_are_cut_and_what_stands_there_is_missed(tmp_path: Path, backbone: Backbone) -> None:
    result, out, told = trained(tmp_path, backbone, method="linear_probe", max_tokens=8)
    assert any("are longer than 8 tokens and are cut" in note for note in told.notes)
    found = evaluate_file(out, tmp_path / "data", backbone=backbone)
    cut = [row for row in found.rows if row.truncated]
    assert cut
    for row in cut:
        ends = [one["end"] for one in row.entities or ()]
        words = backbone.text.encode([found.texts[row.row - 1]], 8, words=True)[0].words  # type: ignore[list-item]
        assert len(words) == 6
        assert max(ends, default=0) <= words[-1].end
    assert result.metrics["recall"] < 0.9


def test_entities_within_words_are_told_and_never_right(tmp_path: Path, backbone: Backbone) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "w1w2 w3", "entities": [{"start": 0, "end": 2, "label": "x"}]},
        {"text": "w4 w5", "entities": []},
    ]
    write_rows(tmp_path / "data" / "train.jsonl", rows * 8)
    write_rows(tmp_path / "data" / "validation.jsonl", rows * 8)
    told = Told()
    config = quick(tmp_path / "data", tmp_path / "a", method="linear_probe")
    result = train(config, backbone=backbone, progress=told, write_file=False)
    (note,) = [note for note in told.notes if "within a word" in note]
    assert note.startswith("8 of 16 train rows have spans that begin or end within a word (row 1)")
    assert result.value == 0.0


def test_settings_that_mean_nothing_here_are_refused(tmp_path: Path, backbone: Backbone) -> None:
    data = write_entities(tmp_path / "data")
    with pytest.raises(ConfigError, match="pooling is 'mean'; token_labels on tiny-bert has first"):
        train(quick(data, tmp_path / "a", pooling="mean"), backbone=backbone, write_file=False)
    with pytest.raises(ConfigError, match="class_weights has no meaning for token_labels"):
        train(quick(data, tmp_path / "a", class_weights="auto"), backbone=backbone, write_file=False)
    with pytest.raises(ConfigError, match=r"allowed for a token_labels task: span_f1, precision, recall"):
        load_data(quick(data, tmp_path / "a", metric="matthews"))


def test_a_report_has_a_line_for_each_label(tmp_path: Path, backbone: Backbone) -> None:
    trained(tmp_path, backbone, method="linear_probe", report=str(tmp_path / "report"))
    page = read_page((tmp_path / "report" / "demo.html").read_text(encoding="utf-8"))
    wanted = dict(zip(page.column("By label", "label"), page.column("By label", "wanted"), strict=True))
    number = sum(one["label"] == "odd" for row in make_rows(40, 2) for one in row["entities"])
    assert wanted["odd"] == str(number)


def target(text: str, *spans: tuple[int, int, int]) -> WordSpans:
    (row,) = tiny_backbone("bert").text.encode([text], words=True)
    return WordSpans(
        tuple(Span(*span) for span in spans), tuple((word.start, word.end) for word in row.words)
    )


def test_tags_of_words() -> None:
    """An entity of two words, one that begins within a word, and a word that two share: the first has it."""
    targets = [
        target("w1 w2, w3", (0, 5, 1)),
        target("w1w2 w3", (2, 7, 0)),
        target("w1w2", (0, 2, 0), (2, 4, 1)),
    ]
    tags = TASK.stack(targets).tolist()
    assert tags == [[3, 4, 0, 0], [1, 2, -100, -100], [1, -100, -100, -100]]


def test_scores_are_by_hand() -> None:
    """One right, one with another end, one with another label, one that is missed; a cut word is missed."""
    truth = [target("w1 w2 w3 w4 w5", (0, 2, 0), (3, 8, 1), (9, 11, 0)), target("w1 w2", (3, 5, 1))]
    logits = np.full((2, 25), np.nan, np.float32)
    logits[0] = np.eye(5, dtype=np.float32)[[1, 3, 0, 3, 0]].flatten() * 20
    logits[1, :5] = np.eye(5, dtype=np.float32)[0] * 20
    values = TASK.scores(logits, truth)
    assert values == {
        "span_f1": pytest.approx(2 / 7),
        "precision": pytest.approx(1 / 3),
        "recall": pytest.approx(1 / 4),
        "macro_f1": pytest.approx((2 / 3 + 0) / 2),
        "token_accuracy": pytest.approx(4 / 7),
    }
    assert TASK.baseline((), truth).values["token_accuracy"] == pytest.approx(2 / 7)
    logits[0, 0] = np.nan
    assert np.isnan(TASK.scores(logits, truth)["span_f1"])


def test_the_library_counts_as_sets_do() -> None:
    chooser = np.random.default_rng(3)

    def spans() -> list[tuple[int, int, str]]:
        ends = sorted(chooser.choice(8, size=2 * chooser.integers(0, 4), replace=False).tolist())
        return [(a, b, "xyz"[chooser.integers(3)]) for a, b in zip(ends[::2], ends[1::2], strict=True)]

    truth, told = ([spans() for _ in range(300)] for _ in range(2))
    both = sum(len(set(a) & set(b)) for a, b in zip(truth, told, strict=True))
    num_right, num_told = (sum(map(len, rows)) for rows in (truth, told))
    values = span_scores(truth, told)
    assert both > 20
    assert values["precision"] == pytest.approx(both / num_told)
    assert values["recall"] == pytest.approx(both / num_right)
    assert values["span_f1"] == pytest.approx(2 * both / (num_told + num_right))
    counts = counts_of(truth, told)
    assert values["macro_f1"] == pytest.approx(np.mean([one.f1 for one in counts.values()]))
    assert (sum(one.right for one in counts.values()), sum(one.told for one in counts.values())) == (
        num_right,
        num_told,
    )


def test_a_candidate_replays_only_the_words_of_its_probe(tmp_path: Path, backbone: Backbone) -> None:
    _, out, _ = trained(tmp_path, backbone, method="linear_probe")
    stored = read_adapter_file(out)
    plain = stored.manifest.model_dump()
    long = next(probe for probe in plain["probes"] if len(probe["words"]) > 2)
    long |= {"words": long["words"][:2], "logits": long["logits"][:10]}
    data = write_adapter(type(stored.manifest).model_validate(plain), stored.tensors)
    assert 2 in {len(row.parts[0].words) for (row,) in examine(data, backbone).probes}
    assert check_file(data, backbone).probes.count == 32
