"""Similarity the whole way: forms of data, what is learnt and measured, the file, and what is refused."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from adapters_store.adapter_file import read_adapter_file, write_adapter
from adapters_store.errors import AdapterFileError
from adapters_store.manifest import parse_manifest
from modeling import METHODS, Adapter, Backbone, HeadSpec, ServedModel, readout_of
from modeling.readouts.cosine import TEMPERATURE, in_batch_loss
from proof.candidate import examine, judge
from proof.check import CheckReport, check_file
from tests.conformance.options import tiny_options
from tests.tiny import pooled_states, tiny_backbone
from tests.unit.training.conftest import Rows, Told, make_rows, quick, write_rows
from training.data.load import load_data
from training.errors import ConfigError, DataError
from training.file.evaluate import evaluate_file
from training.metrics.ranking import Embedded, ranks
from training.run import train

FORMS = ["scores", "labels", "positives"]


def rows_of(form: str, count: int, seed: int) -> Rows:
    """Pairs with a score from 1 to 4, with 1 or 0, or all of texts that belong together: the same words."""
    rows = make_rows("sentence_pair", count, seed)
    chooser = random.Random(seed)
    for row in rows:
        if form == "scores":
            row["label"] = 1.0 + 3.0 * row["label"]
        if form == "positives":
            row["text_pair"] = " ".join(chooser.sample(row["text"].split(), len(row["text"].split())))
            del row["label"]
    return rows


def write_pairs(folder: Path, form: str) -> Path:
    write_rows(folder / "train.jsonl", rows_of(form, 60, 1))
    write_rows(folder / "validation.jsonl", rows_of(form, 30, 2))
    card = {"kind": "similarity", "text_fields": ["text", "text_pair"]}
    (folder / "dataset.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def trained(folder: Path, out: Path, backbone: Backbone, method: str = "hadamard", **more: Any) -> Told:
    def verify(path: Path, _: str) -> CheckReport:
        return check_file(path.read_bytes(), backbone)

    told = Told()
    options = {"method": method, "method_config": tiny_options(method)}
    train(quick(folder, out, **options | more), backbone=backbone, progress=told, verify=verify)
    return told


@pytest.mark.parametrize(
    ("form", "method", "family"),
    [
        ("scores", "hadamard", "bert"),
        ("labels", "compacter", "bert"),
        ("positives", "prompt_tuning", "bert"),
        ("scores", "full", "bert"),
        ("labels", "lora", "t5"),
        ("positives", "bitfit", "bart"),
    ],
)
def test_it_goes_the_whole_way(tmp_path: Path, form: str, method: str, family: str) -> None:
    """The file has no head, replays as trained, and evaluates as it was measured."""
    backbone, out = tiny_backbone(family), tmp_path / "a.safetensors"
    folder = write_pairs(tmp_path / "data", form)
    trained(folder, out, backbone, method)
    file = read_adapter_file(out)
    head = file.manifest.head
    assert (head.kind, head.labels, head.pooling) == ("similarity", [], backbone.poolings[0])
    assert (head.low, head.high) == ((1.0, 4.0) if form == "scores" else (None, None))
    assert not any(name.startswith("head/") for name in file.tensors)
    assert check_file(out.read_bytes(), backbone).probes.max_difference < 1e-4
    found = evaluate_file(out, folder, backbone=backbone)
    assert file.manifest.metrics is not None
    assert found.metrics == pytest.approx(file.manifest.metrics.values, abs=1e-4)
    assert set(found.metrics) >= ({"spearman", "pearson"} if form == "scores" else {"mrr", "recall_at_1"})


def test_answers_are_cosines_of_each_text_alone(tmp_path: Path, backbone: Backbone) -> None:
    """In the data's units and range; what is answered for one text is its side of the cosine."""
    folder, out = write_pairs(tmp_path / "data", "scores"), tmp_path / "a.safetensors"
    trained(folder, out, backbone)
    adapter = examine(out.read_bytes(), backbone).adapter(backbone)
    found = evaluate_file(out, folder, backbone=backbone)
    served = ServedModel(backbone)
    slot = served.install(adapter.pack())
    for item, row in zip(found.texts[:4], found.rows, strict=False):
        assert isinstance(item, tuple)
        encoded = [backbone.text.encode([text])[0] for text in item]
        with torch.no_grad(), adapter.attached(backbone):
            u, v = (pooled_states(backbone, backbone.pack([one]), "mean")[0] for one in encoded)
        cosine = float(u @ v / u.norm() / v.norm())
        assert row.logits == pytest.approx([cosine], abs=1e-5)
        assert row.score == pytest.approx(np.clip(1 + 3 * cosine, 1, 4), abs=1e-4)
        alone = served.run(encoded, [slot] * 2, [(0, slot), (1, slot)])
        np.testing.assert_allclose(alone[0], u / u.norm(), atol=1e-5)
        assert float(alone[0] @ alone[1]) == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize("form", ["scores", "positives"])
def test_more_is_learnt_than_the_frozen_model_knows(tmp_path: Path, form: str) -> None:
    """On the rows that are learnt from, which are the validation rows here."""
    backbone, folder = tiny_backbone("bert"), tmp_path / "data"
    write_pairs(folder, form)
    rows = rows_of("scores" if form == "scores" else "labels", 48, 3)
    if form == "positives":
        rows = [{**row, "label": 1} for row in rows]
    for split in ("train", "validation"):
        write_rows(folder / f"{split}.jsonl", rows)
    config = quick(folder, tmp_path / "a.safetensors", method="lora", epochs=25, lr=0.02)
    result = train(config, backbone=backbone, write_file=False)
    frozen = result.history[0].values[result.metric]
    assert result.value > frozen + 0.2


# ---- forms of data


def note_of(folder: Path) -> str:
    return " ".join(load_data(quick(folder, folder / "a.safetensors")).notes)


def test_the_form_is_told(tmp_path: Path) -> None:
    texts = {form: note_of(write_pairs(tmp_path / form, form)) for form in FORMS}
    assert "belong" not in texts["scores"]
    assert "pairs labelled 1 belong together, those with 0 do not" in texts["labels"]
    assert "no field of labels: every row is a pair that belongs together" in texts["positives"]


def test_two_names_say_which_pairs_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for split, seed in (("train", 1), ("validation", 2)):
        rows = rows_of("labels", 30, seed)
        write_rows(folder / f"{split}.jsonl", [{**row, "label": "ny"[row["label"]]} for row in rows])
    (folder / "dataset.json").write_text(json.dumps({"kind": "similarity", "label_names": ["n", "y"]}))
    data = load_data(quick(folder, tmp_path / "a.safetensors"))
    assert data.train.targets == [row["label"] for row in rows_of("labels", 30, 1)]
    assert "labelled 'y' belong together, those with 'n' do not" in " ".join(data.notes)


def test_a_column_of_scores_is_found_by_its_usual_names(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for split, seed in (("train", 1), ("validation", 2)):
        rows = rows_of("scores", 30, seed)
        write_rows(folder / f"{split}.jsonl", [{"score": row.pop("label") / 5, **row} for row in rows])
    data = load_data(quick(folder, tmp_path / "a.safetensors", kind="similarity"))
    assert data.card.label_field == "score"
    assert data.task.spec("mean") == HeadSpec("similarity", (), "mean", low=0.2, high=0.8)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0] * 30, DataError, "none of 30 train pairs has the label 1"),
        ([2.5] * 30, DataError, "all 30 train rows have the label 2.5"),
        (["alike", 3.0] * 15, DataError, "a score is a number"),
        ([1, 0, "1e999"] * 10, DataError, "a score is a finite number"),
    ],
)
def test_labels_that_say_nothing_are_refused(
    tmp_path: Path, labels: list[Any], error: type[Exception], message: str
) -> None:
    folder = write_pairs(tmp_path / "data", "labels")
    rows = [{**row, "label": label} for row, label in zip(rows_of("labels", 30, 1), labels, strict=True)]
    write_rows(folder / "train.jsonl", rows)
    with pytest.raises(error, match=message):
        load_data(quick(folder, tmp_path / "a.safetensors"))


@pytest.mark.parametrize(("form", "metric"), [("scores", "mrr"), ("positives", "spearman")])
def test_metrics_belong_to_a_form_of_data(tmp_path: Path, form: str, metric: str) -> None:
    folder = write_pairs(tmp_path / "data", form)
    with pytest.raises(ConfigError, match=f"metric is '{metric}'; allowed for a similarity task"):
        load_data(quick(folder, tmp_path / "a.safetensors", metric=metric))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "linear_probe"}, "linear_probe trains a head alone, and similarity has none"),
        ({"epochs": 0}, "nothing to train: hadamard with these epochs"),
        ({"pooling": "apart"}, "similarity on tiny-bert has unit, mean, first, pooler"),
        ({"class_weights": "auto"}, "class_weights has no meaning for similarity"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    tmp_path: Path, backbone: Backbone, changes: dict[str, Any], message: str
) -> None:
    folder = write_pairs(tmp_path / "data", "scores")
    with pytest.raises(ConfigError, match=message):
        train(quick(folder, tmp_path / "a.safetensors", **changes), backbone=backbone)


def test_one_text_field_is_refused(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "data", "scores")
    with pytest.raises(ConfigError, match="kind similarity takes 2 text field"):
        load_data(quick(folder, tmp_path / "a.safetensors", text_fields=("text",)))


# ---- the file


@pytest.fixture
def written(tmp_path: Path, backbone: Backbone) -> Path:
    folder, out = write_pairs(tmp_path / "data", "scores"), tmp_path / "a.safetensors"
    trained(folder, out, backbone, epochs=1)
    return out


def test_a_head_has_nothing_to_say(written: Path) -> None:
    file = read_adapter_file(written)
    more = file.tensors | {"head/weight": torch.ones(1, 32), "head/bias": torch.ones(1)}
    with pytest.raises(AdapterFileError) as refused:
        write_adapter(file.manifest, more)
    assert {one.field for one in refused.value.failures} == {"head/weight", "head/bias"}
    assert all("there are no labels" in one.allowed for one in refused.value.failures)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"labels": ["score"]}, "manifest.head.labels"),
        ({"pooling": "none"}, "manifest.head.pooling"),
        ({"threshold": 0.5}, "manifest.head.threshold"),
        ({"kind": "single_label", "low": None, "high": None}, "manifest.head.labels"),
    ],
)
def test_a_manifest_that_is_none_of_a_similarity(written: Path, change: dict[str, Any], field: str) -> None:
    manifest = read_adapter_file(written).manifest
    found = judge(manifest.head.model_copy(update=change), manifest.probes)
    assert [one.field for one in found] == [field]


def test_without_labels_is_none_of_a_kind_with_a_head(written: Path) -> None:
    """One failure, and none of the tensors that then are not there or of the probes' logits."""
    plain = read_adapter_file(written).manifest.model_dump()
    plain["head"] |= {"kind": "single_label", "low": None, "high": None}
    for probe in plain["probes"]:
        probe["logits"] = [0.5, 0.5, 0.5]
    parsed = parse_manifest(json.dumps(plain), judge=judge)
    assert [one.field for one in parsed.failures] == ["manifest.head.labels"]
    assert parsed.has_head


def test_a_pooling_that_the_backbone_lacks_is_refused(backbone: Backbone) -> None:
    spec = HeadSpec("similarity", (), pooling="eos")
    (failure,) = readout_of(spec).check_backbone(spec, backbone)
    assert (failure.field, failure.allowed) == ("head.pooling", "unit, mean, first, pooler")
    with pytest.raises(Exception, match="eos"):
        Adapter.create(backbone, METHODS["hadamard"].from_config({}), spec)


# ---- the loss and the ranks


def test_the_in_batch_loss_by_hand() -> None:
    """Three pairs, of which the last does not belong together: its texts are wrong answers alone."""
    torch.manual_seed(0)
    u, v = (normalize(torch.randn(3, 4), dim=1) for _ in range(2))
    texts = torch.arange(6).view(3, 2)
    found = in_batch_loss(u, v, texts[:, 0], texts[:, 1], torch.tensor([True, True, False]))
    scores = (u @ v.T / TEMPERATURE).exp()
    forth = [-(scores[i, i] / scores[i].sum()).log() for i in range(2)]
    back = [-(scores[i, i] / scores[:, i].sum()).log() for i in range(2)]
    torch.testing.assert_close(found, (sum(forth) / 2 + sum(back) / 2) / 2)


@pytest.mark.parametrize(
    ("texts", "positive", "left_out"),
    [
        ([(0, 1), (2, 1)], [True, True], {(0, 1), (1, 0)}),  # the same answer
        ([(0, 1), (0, 2)], [True, True], {(0, 1), (1, 0)}),  # another right answer of the question
        ([(0, 1), (0, 2)], [True, False], set()),  # a wrong answer of it
        ([(0, 1), (2, 0)], [True, True], {(0, 1)}),  # the question itself
    ],
)
def test_what_is_no_wrong_answer_is_left_out(
    texts: list[tuple[int, int]], positive: list[bool], left_out: set[tuple[int, int]]
) -> None:
    """Of the second texts, by which cosines between u and v have a gradient in one direction alone."""
    from modeling.readouts.cosine import _softmax_loss

    scores = torch.zeros(2, 2, requires_grad=True)
    first, second = torch.tensor(texts).T
    _softmax_loss(scores, first, second, torch.tensor(positive)).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    asked = [(i, j) for i in range(2) for j in range(2) if i != j and positive[i]]
    assert {place for place in asked if scores.grad[place] == 0} == left_out & set(asked)


def test_pairs_that_do_not_belong_together_teach_nothing_alone() -> None:
    u = normalize(torch.randn(2, 4), dim=1).requires_grad_()
    texts = torch.arange(4).view(2, 2)
    loss = in_batch_loss(u, u.detach(), texts[:, 0], texts[:, 1], torch.tensor([False, False]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert u.grad is not None


def test_ranks_by_hand() -> None:
    """Against one loop over questions and different answers; equal cosines and equal texts among them."""
    chooser = np.random.default_rng(5)
    vectors = chooser.normal(size=(9, 3)).astype(np.float32)
    vectors[4] = vectors[3]  # another text with the same embedding
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = np.array([(0, 3), (1, 4), (2, 5), (0, 6), (7, 0), (8, 3), (1, 7)])
    positive = np.array([True, True, True, True, True, True, False])
    found = ranks(Embedded(vectors[texts], texts), positive)
    for row, (question, answer) in enumerate(texts.tolist()):
        if not positive[row]:
            assert found[row] == 0
            continue
        right = {int(second) for first, second in texts[positive] if first == question}
        others = {int(second) for second in texts[:, 1]} - right - {question}
        own = vectors[question] @ vectors[answer]
        assert found[row] == 1 + sum(vectors[question] @ vectors[other] >= own for other in others)


def test_embeddings_that_are_all_alike_find_nothing() -> None:
    texts = np.arange(8).reshape(4, 2)
    same = np.ones((4, 2, 1), np.float32)
    assert ranks(Embedded(same, texts), np.ones(4, bool)).tolist() == [4.0] * 4
