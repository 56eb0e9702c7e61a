"""Entities, similarities and pairs apart under every way of looking at a file, and in shared passes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters_store.adapter_file import read_adapter_file, write_adapter_file
from modeling import METHODS, Adapter, Backbone, HeadSpec, ServedModel, Wanted, kind_of, readout_of
from tests.tiny import tiny_backbone
from tests.unit.training import test_apart, test_similarity, test_together
from tests.unit.training.conftest import Told, agree, quick, write_task
from tests.unit.training.entities import write_entities
from tests.unit.training.pages import read_page
from training.data.card import Flags
from training.errors import DataError
from training.file.compare import compare_files
from training.file.evaluate import FileEvaluation, evaluate_file
from training.file.explain import explain_file
from training.file.prune import prune_file
from training.file.wrong_rows import write_errors, wrong_rows
from training.loop.encode import Rows, encode_items
from training.loop.passes import features, served, trained
from training.loop.prefix import StatesBelow, fill
from training.run import train

FORMS: dict[str, Callable[[Path], Path]] = {
    "entities": write_entities,
    "scores": lambda folder: test_similarity.write_pairs(folder, "scores"),
    "labels": lambda folder: test_similarity.write_pairs(folder, "labels"),
    "positives": lambda folder: test_similarity.write_pairs(folder, "positives"),
    "apart": lambda folder: test_apart.write_pairs(folder, "sentence_pair"),
}


@pytest.fixture
def built(tmp_path: Path, backbone: Backbone) -> Callable[..., tuple[Path, Path]]:
    def build(form: str, name: str = "a", **changes: Any) -> tuple[Path, Path]:
        data, out = tmp_path / form, tmp_path / f"{form}-{name}.safetensors"
        if not data.exists():
            FORMS[form](data)
        more = {"pooling": "apart"} if form == "apart" else {}
        config = quick(data, out, **{"epochs": 2, "lr": 1e-2, **more, **changes})
        train(config, backbone=backbone, progress=Told(), verify=agree)
        return out, data

    return build


@pytest.mark.parametrize("form", FORMS)
def test_two_files_of_every_form_are_compared(
    built: Callable[..., tuple[Path, Path]], backbone: Backbone, form: str
) -> None:
    first, data = built(form)
    second, _ = built(form, "b", epochs=1, lr=1e-4, seed=1)
    found = compare_files(first, second, data, "validation", backbone=backbone)
    one, other = (evaluate_file(path, data, backbone=backbone) for path in (first, second))
    assert found.difference.mean == pytest.approx(other.value - one.value)
    assert (found.agreement is None) == (form in {"scores", "labels", "positives"})


@pytest.mark.parametrize("form", FORMS)
def test_a_score_of_resampled_rows_is_the_metric_of_these_rows(
    built: Callable[..., tuple[Path, Path]], backbone: Backbone, form: str
) -> None:
    found = evaluate_file(*built(form), backbone=backbone)
    random, score = np.random.default_rng(0), found.known.scorer(found.logits, found.targets)
    for _ in range(5):
        rows = random.integers(0, len(found.rows), size=len(found.rows))
        targets = [found.targets[row] for row in rows.tolist()]
        assert score(rows) == pytest.approx(found.known.scores(found.logits[rows], targets)[found.metric])


@pytest.mark.parametrize("metric", ["macro_f1", "token_accuracy", "span_f1+token_accuracy"])
def test_every_metric_of_entities_can_be_resampled(
    built: Callable[..., tuple[Path, Path]], backbone: Backbone, metric: str
) -> None:
    path, data = built("entities", epochs=6, lr=3e-2)
    found = evaluate_file(path, data, backbone=backbone, flags=Flags(metric=metric))
    judged, score = found.judged, found.known.scorer(found.logits, found.targets)
    both = zip(judged.wanted, judged.told, strict=True)
    one_label = [row for row, marks in enumerate(both) if "odd" not in str(marks) and any(marks)]
    for rows in (np.array([3, 3, 9, 17, 0, 30]), np.array(one_label)):
        targets = [found.targets[row] for row in rows.tolist()]
        wanted = found.known.scores(found.logits[rows], targets)[found.metric]
        assert wanted > 0
        assert score(rows) == pytest.approx(wanted)


def column(found: FileEvaluation, tmp_path: Path, section: str, name: str) -> list[str]:
    write_errors(tmp_path / "page.html", found)
    return read_page((tmp_path / "page.html").read_text(encoding="utf-8")).column(section, name)


@pytest.mark.parametrize("form", ["scores", "labels", "positives"])
def test_similarities_are_numbers_on_the_page(
    built: Callable[..., tuple[Path, Path]], backbone: Backbone, tmp_path: Path, form: str
) -> None:
    """Nothing of them is right or wrong: all rows, those furthest off first."""
    found = evaluate_file(*built(form), backbone=backbone)
    judged = found.judged
    assert (judged.right, judged.confidence, judged.sure) == (None, None, None)
    assert judged.told == pytest.approx([row.score for row in found.rows])
    losses = [row["loss"] for row in wrong_rows(found)]
    assert len(losses) == len(found.rows)
    assert losses == sorted(losses, reverse=True)
    shown = column(found, tmp_path, "Rows furthest off", "row")
    assert shown[0] == str(found.rows[int(judged.wrong[0])].row)
    assert (judged.numbers is None) == (form != "scores")


@pytest.mark.parametrize("form", FORMS)
def test_layers_can_be_left_out_of_every_form(
    built: Callable[..., tuple[Path, Path]], backbone: Backbone, tmp_path: Path, form: str
) -> None:
    path, data = built(form, metric="mrr") if form in {"labels", "positives"} else built(form)
    out = tmp_path / "pruned.safetensors"
    result = prune_file(path, data, keep=1, out=out, backbone=backbone, verify=agree)
    assert len(result.scores) == 2
    found = evaluate_file(out, data, backbone=backbone)
    assert found.metrics == pytest.approx(dict(result.scores[1].metrics), abs=1e-6)


def test_pairs_apart_have_temperatures_and_withhold_labels(
    built: Callable[..., tuple[Path, Path]], backbone: Backbone, tmp_path: Path
) -> None:
    """A file of version 2; pruned it is one again, with both fitted anew."""
    path, data = built("apart", abstain=0.3)
    head = read_adapter_file(path).manifest.head
    assert (read_adapter_file(path).manifest.schema_version, head.pooling) == (2, "apart")
    assert head.abstain is not None
    found = evaluate_file(path, data, backbone=backbone)
    assert [row.unknown for row in found.rows] == [row.score < head.abstain.threshold for row in found.rows]
    prune_file(path, data, keep=1, out=tmp_path / "p.safetensors", backbone=backbone, verify=agree)
    pruned = read_adapter_file(tmp_path / "p.safetensors").manifest
    assert pruned.schema_version == 2
    assert pruned.head.abstain is not None
    assert pruned.head.abstain.target_error == 0.3


def test_layers_of_pairs_apart_are_weighed(
    built: Callable[..., tuple[Path, Path]], backbone: Backbone
) -> None:
    """By the file's own answers: those of both texts, under its temperature, also where it withholds them."""
    path, data = built("apart", abstain=0.3)
    file = read_adapter_file(path)
    assert file.manifest.head.abstain is not None
    abstain = file.manifest.head.abstain.model_copy(update={"threshold": 0.999})
    head = file.manifest.head.model_copy(update={"abstain": abstain, "temperature": 3.0})
    changed = file.manifest.model_copy(update={"head": head, "schema_version": 2})
    write_adapter_file(path, changed, dict(file.tensors))
    found = evaluate_file(path, data, backbone=backbone)
    rows = found.rows[:4]
    assert all(row.unknown for row in rows)
    for one, row in zip(explain_file(path, found.texts[:4], backbone=backbone).texts, rows, strict=True):
        assert one.whole.unknown
        assert one.label == one.whole.label == found.judged.told[rows.index(row)]
        assert one.whole.score == pytest.approx(row.score, abs=1e-5)
        assert one.whole.probability == pytest.approx(row.score, abs=1e-5)
        assert one.whole.margin == pytest.approx(abs(row.logits[0] - row.logits[1]), abs=1e-4)


@pytest.mark.parametrize("form", ["entities", "scores"])
def test_what_has_no_single_answer_is_not_explained(
    built: Callable[..., tuple[Path, Path]], backbone: Backbone, form: str
) -> None:
    path, _ = built(form)
    item = "w1 w2" if form == "entities" else ("w1", "w2")
    with pytest.raises(DataError, match="no single answer .* give a file of labels, numbers or written"):
        explain_file(path, [item], backbone=backbone)


PAIR_SPECS = [
    HeadSpec("single_label", ("no", "yes"), "apart"),
    HeadSpec("similarity", (), "unit"),
    HeadSpec("similarity", (), "mean", low=1.0, high=4.0),
]
PAIRS = [(f"w{n} w{n + 1} w3", " ".join(f"w{n + k}" for k in range(1 + n % 5))) for n in range(9)]


@pytest.mark.parametrize("spec", PAIR_SPECS, ids=lambda spec: f"{spec.kind}-{spec.low}")
def test_passes_over_pairs_apart_may_begin_at_the_lowest_adapted_layer(spec: HeadSpec) -> None:
    """Kept states are read two texts to a row: answers, embeddings and features are those of whole passes."""
    backbone = tiny_backbone("bert")
    adapter = Adapter.create(backbone, METHODS["hadamard"].from_config({"layers": [1]}), spec)
    with torch.no_grad():
        for parameter in adapter.body_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    rows: Rows = encode_items(backbone, PAIRS, 24, 0, readout_of(spec))
    assert (rows.per_row, rows.per_read) == (2, 2)
    below = StatesBelow.room(backbone, rows, 1, torch.float32)
    fill(backbone, rows, below)
    with adapter.attached(backbone):
        whole, begun = trained(backbone, adapter, rows), trained(backbone, adapter, rows, below)
        states = [features(backbone, rows, spec, lambda: None, enter=kept).values for kept in (None, below)]
    np.testing.assert_allclose(begun.logits, whole.logits, atol=1e-5)
    torch.testing.assert_close(states[0], states[1])
    if whole.embedded is not None and begun.embedded is not None:
        np.testing.assert_allclose(begun.embedded.texts, whole.embedded.texts)
        np.testing.assert_allclose(begun.embedded.values, whole.embedded.values, atol=1e-5)
    again = served(ServedModel(backbone), adapter, rows)
    np.testing.assert_allclose(again.logits, whole.logits, atol=1e-5)


class PairRows(test_together.Rows):
    """Rows of pairs that are encoded apart, with what they should be answered."""

    def __init__(self, backbone: Backbone, adapter: Adapter, seed: int) -> None:
        rows = encode_items(backbone, PAIRS[seed : seed + 4], 24, 0, readout_of(adapter.spec))
        self.batch = backbone.pack(rows.encoded, adapter.virtual_tokens)
        answers = torch.arange(4) % 2
        self.wanted = Wanted(answers if adapter.spec.labels else answers.float())


def test_learners_of_pairs_apart_share_a_pass_with_all_others() -> None:
    backbone = tiny_backbone("bert")
    specs = [*PAIR_SPECS, *test_together.specs_on(backbone)]
    methods = ["hadamard", "prompt_tuning", "compacter", "lora", "bitfit"]
    adapters = [test_together.moved(backbone, methods[n % 5], spec) for n, spec in enumerate(specs)]
    rows = [
        (PairRows if readout_of(adapter.spec).apart else test_together.Rows)(backbone, adapter, seed)
        for seed, adapter in enumerate(adapters)
    ]
    found = test_together.together(backbone, adapters, rows)
    for adapter, own, got in zip(adapters, rows, found, strict=True):
        wanted = test_together.alone(backbone, adapter, own)
        test_together.assert_the_same(got, wanted, f"{adapter.spec}")


@pytest.mark.parametrize("kind", ["token_labels", "similarity", "regression"])
@pytest.mark.parametrize("option", ["temperature", "threshold"])
def test_what_has_no_probabilities_has_no_temperature(kind: str, option: str) -> None:
    labels = {"token_labels": ("O", "B-x", "I-x"), "similarity": (), "regression": ("n",)}[kind]
    spec = HeadSpec(kind, labels, "first")
    spec = replace(spec, temperature=0.5) if option == "temperature" else replace(spec, threshold=0.5)
    assert [failure.field for failure in kind_of(spec).check(spec)] == [f"head.{option}"]


def test_rows_that_no_head_has_seen_reach_the_report(tmp_path: Path, backbone: Backbone) -> None:
    data, out = write_task(tmp_path / "data", "regression"), tmp_path / "a.safetensors"
    result = train(quick(data, out), backbone=backbone, progress=Told(), verify=agree)
    found = result.out_of_fold
    assert found is not None
    assert found.shape == (60, 1)
    low, high = (read_adapter_file(out).manifest.head.low, read_adapter_file(out).manifest.head.high)
    assert low is not None
    assert high is not None
    assert low - (high - low) < float(found.mean()) < high + (high - low)  # in the data's units
    similar = test_similarity.write_pairs(tmp_path / "pairs", "scores")
    alone = train(quick(similar, tmp_path / "s"), backbone=backbone, progress=Told(), verify=agree)
    assert alone.out_of_fold is None
