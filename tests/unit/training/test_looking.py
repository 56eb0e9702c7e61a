"""Judged rows, confusions, suspected labels: by hand, by scikit-learn, and with planted errors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.model_selection import cross_val_predict

from modeling import Backbone, HeadSpec
from tests.unit.training.conftest import Told, agree, quick, write_task
from tests.unit.training.pages import read_page
from training.data.load import load_data
from training.loop.encode import encode_split
from training.metrics.scores import Metric
from training.report.confusion import MOST_IN_MATRIX, block_of, confused_pairs, confusions, label_scores
from training.report.page import rendered
from training.report.suspects import can_be_suspected, suspected
from training.report.write import training_page
from training.rows.examples import Span, WordSpans
from training.run import train
from training.tasks import Target
from training.tasks.judged import Judged
from training.tasks.multi_label import MultiLabel
from training.tasks.regression import Regression
from training.tasks.single_label import SingleLabel
from training.tasks.token_labels import TokenLabels

NAMES = tuple(f"label {i}" for i in range(6))
ONE = SingleLabel(NAMES, Metric("accuracy"))
SPEC = HeadSpec("single_label", NAMES)


def test_the_matrix_is_the_librarys() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(200, 6)).astype(np.float32)
    targets: list[Target] = random.integers(0, 6, size=200).tolist()
    judged = ONE.judged(SPEC, logits, targets)
    told = logits.argmax(axis=1)
    np.testing.assert_array_equal(confusions(judged), confusion_matrix(targets, told))
    precision, recall, f1, rows = precision_recall_fscore_support(targets, told)
    by_name = {one.name: one for one in label_scores(judged)}
    for label, name in enumerate(NAMES):
        one = by_name[name]
        assert (one.precision, one.recall, one.f1) == pytest.approx(
            (precision[label], recall[label], f1[label])
        )
        assert one.num_wanted == rows[label]
        mine = np.asarray(targets) == label
        assert one.loss == pytest.approx(judged.loss[mine].mean())
    pairs = confused_pairs(judged)
    assert sum(len(pair.rows) for pair in pairs) == int((told != np.asarray(targets)).sum())
    assert [len(pair.rows) for pair in pairs] == sorted((len(pair.rows) for pair in pairs), reverse=True)
    first = pairs[0]
    wanted = [
        one for one in first.rows if judged.wanted[one] == first.wanted and NAMES[told[one]] == first.told
    ]
    assert len(wanted) == len(first.rows)


def test_of_many_labels_the_block_with_most_confusions_is_drawn() -> None:
    counts = np.diag(np.full(150, 10))
    counts[7, 100], counts[100, 7], counts[3, 140] = 5, 4, 1
    block = block_of(counts)
    assert {3, 7, 100, 140} <= set(block)
    assert len(block) == 15
    assert block == sorted(block)
    assert block_of(np.eye(MOST_IN_MATRIX, dtype=np.int64)) == list(range(MOST_IN_MATRIX))


def test_pairs_of_several_labels_are_what_is_missing_beside_what_is_added() -> None:
    task = MultiLabel(("a", "b", "c"), Metric("micro_f1"))
    logits = np.array([[5, -5, 5], [-5, 5, -5], [5, 5, -5]], dtype=np.float32)
    judged = task.judged(task.spec("none"), logits, [(0, 1), (1,), (0,)])
    assert [(pair.wanted, pair.told, pair.rows) for pair in confused_pairs(judged)] == [("b", "c", (0,))]
    assert judged.told == [["a", "c"], ["b"], ["a", "b"]]
    assert judged.right is not None
    assert judged.right.tolist() == [False, True, False]


def test_planted_wrong_labels_are_suspected() -> None:
    random = np.random.default_rng(1)
    features, labels = make_blobs(n_samples=600, centers=6, n_features=8, cluster_std=2.2, random_state=3)
    planted = random.choice(600, size=30, replace=False)
    wrong = labels.copy()
    wrong[planted] = (labels[planted] + random.integers(1, 6, size=30)) % 6
    logits = cross_val_predict(
        LogisticRegression(max_iter=2_000), features, wrong, cv=5, method="decision_function"
    )
    found = suspected(ONE.judged(SPEC, logits.astype(np.float32), wrong.tolist()))
    assert len(set(found.tolist()) & set(planted.tolist())) >= 24  # the clusters overlap
    assert len(found) <= 26
    assert set(found[:20].tolist()) <= set(planted.tolist())


def test_planted_wrong_numbers_are_suspected() -> None:
    random = np.random.default_rng(2)
    features = random.normal(size=(300, 5))
    values = features @ np.arange(1.0, 6.0) + random.normal(0, 0.3, size=300)
    planted = random.choice(300, size=10, replace=False)
    values[planted] += 8
    logits = cross_val_predict(Ridge(), features, values, cv=5)[:, None].astype(np.float32)
    task = Regression(("number",), Metric("mae"))
    found = suspected(task.judged(task.spec("none"), logits, values.tolist()))
    assert set(found[:10].tolist()) == set(planted.tolist())
    assert len(found) < 20


def test_planted_wrong_tags_are_suspected_and_the_worst_label_is_told() -> None:
    """Rows of two words, tags O, B-A, I-A, B-B, I-B; answers are sure, and rightly so but in one row."""
    task = TokenLabels.build(("A", "B"), Metric("span_f1"), None)
    words = ((0, 1), (2, 3))
    told = [(1, 0), (1, 0), (3, 0), (3, 0), (0, 0)]
    logits = np.stack([np.eye(5, dtype=np.float32)[list(row)].reshape(-1) * 9 for row in told])
    targets = [
        WordSpans((Span(0, 1, 0),), words),
        WordSpans((Span(0, 1, 0),), words),
        WordSpans((Span(0, 1, 1),), words),
        WordSpans((Span(2, 3, 1),), words),  # planted
        WordSpans((), words),
    ]
    judged = task.judged(task.spec("first"), logits, targets)
    assert judged.sure == pytest.approx([1.0] * 5, abs=1e-3)
    assert suspected(judged).tolist() == [3]
    assert judged.by_label is not None
    assert {one.name: one.loss for one in judged.by_label} == {"A": 0.0, "B": 0.5}


def test_what_is_neither_right_nor_wrong_is_never_suspected() -> None:
    judged = Judged((), [1, 0], [0.9, 0.1], np.array([0.1, 0.1]))
    assert not can_be_suspected(judged)
    assert can_be_suspected(ONE.judged(SPEC, np.eye(6, dtype=np.float32), list(range(6))))


def test_right_rows_are_never_suspected() -> None:
    logits = np.eye(6, dtype=np.float32) * 9
    assert len(suspected(ONE.judged(SPEC, logits, list(range(6))))) == 0


def test_suspects_of_a_run_are_on_its_page_by_their_rows(tmp_path: Path, backbone: Backbone) -> None:
    """Out-of-fold logits that are sure of the right class, but for three rows of the train file."""
    config = quick(write_task(tmp_path / "data", "single_sentence"), tmp_path / "a.safetensors")
    result = train(config, backbone=backbone, progress=Told(), verify=agree)
    data = load_data(config)
    targets = np.array(data.train.targets)
    told = targets.copy()
    told[[4, 20, 41]] = (told[[4, 20, 41]] + 1) % 3
    logits = np.eye(3, dtype=np.float32)[told] * 8
    encoded = tuple(
        encode_split(backbone, split, data.task, 32, 0, "unit") for split in (data.train, data.validation)
    )
    page = training_page(config, data, (encoded[0], encoded[1]), replace(result, out_of_fold=logits))
    read = read_page(rendered(page))
    assert sorted(read.column("Suspected label errors", "row")) == ["21", "42", "5"]
    assert read.column("Suspected label errors", "label in the data") == [
        data.task.labels[targets[int(row) - 1]] for row in read.column("Suspected label errors", "row")
    ]


def test_a_block_holds_more_than_the_labels_that_are_wrong_most() -> None:
    """Labels that are each confused with many others a little are no block; clusters are."""
    random = np.random.default_rng(4)
    counts = np.diag(np.full(80, 20))
    for first in range(0, 15, 3):  # five clusters of three
        for row in range(first, first + 3):
            for column in range(first, first + 3):
                counts[row, column] += 3 * (row != column)
    for label in range(40, 60):  # and twenty that are taken for anything
        counts[label, random.choice(80, size=12, replace=False)] += 1
    wrong = counts - np.diag(np.diag(counts))
    often = np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)))[:15]
    block = block_of(counts)
    assert wrong[np.ix_(block, block)].sum() > 1.3 * wrong[np.ix_(often, often)].sum()
