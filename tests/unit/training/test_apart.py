"""Pairs encoded apart, the whole way: trained, published, checked as an upload is, evaluated; and refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters_store.adapter_file import read_adapter_file, write_adapter
from adapters_store.errors import AdapterFileError
from modeling import Backbone, HeadSpec, readout_of
from proof.candidate import examine, judge
from proof.check import CheckReport, check_file
from proof.errors import Refused
from tests.conformance import checks
from tests.conformance.options import tiny_options
from tests.tiny import pooled_states, tiny_backbone
from tests.unit.training.conftest import Told, agree, make_rows, quick, write_rows, write_task
from training.errors import ConfigError
from training.file.evaluate import evaluate_file
from training.loop.encode import encode_items
from training.loop.passes import features
from training.rows.items import ChoiceItem
from training.run import train


def write_pairs(folder: Path, kind: str) -> Path:
    """Pairs of every kind that a head answers, with what their labels are."""
    for split, count, seed in (("train", 60, 1), ("validation", 30, 2)):
        rows = make_rows("sentence_pair", count, seed)
        for row in rows:
            same = row["label"]
            row["label"] = {"regression": 2.0 + same, "multi_label": ["low"] * same}.get(kind, same)
        write_rows(folder / f"{split}.jsonl", rows)
    names = {"sentence_pair": ["different", "same"], "multi_label": ["low", "middle"]}
    card = {"kind": kind, "text_fields": ["text", "text_pair"], "label_names": names.get(kind, [])}
    (folder / "dataset.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def _trained(folder: Path, out: Path, backbone: Backbone, method: str = "hadamard", **more: Any) -> Told:
    def verify(path: Path, _: str) -> CheckReport:
        return check_file(path.read_bytes(), backbone)

    told = Told()
    options = {"method": method, "method_config": tiny_options(method), "pooling": "apart"}
    train(quick(folder, out, **options | more), backbone=backbone, progress=told, verify=verify)
    return told


@pytest.mark.parametrize(
    ("kind", "method", "family"),
    [
        ("sentence_pair", "linear_probe", "bert"),
        ("sentence_pair", "full", "bert"),
        ("regression", "hadamard", "bert"),
        ("multi_label", "prompt_tuning", "bert"),
        ("sentence_pair", "compacter", "t5"),
        ("multiple_choice", "lora", "bert"),
    ],
)
def test_it_goes_the_whole_way(tmp_path: Path, kind: str, method: str, family: str) -> None:
    """The file has a head of four states, replays as trained, and evaluates as it was measured."""
    backbone, folder, out = tiny_backbone(family), tmp_path / "data", tmp_path / "a.safetensors"
    (write_task if kind == "multiple_choice" else write_pairs)(folder, kind)
    _trained(folder, out, backbone, method)
    file = read_adapter_file(out)
    labels = len(file.manifest.head.labels)
    assert file.manifest.head.pooling == "apart"
    assert file.tensors["head/weight"].shape == (labels, 4 * backbone.hidden_size)
    assert check_file(out.read_bytes(), backbone).probes.max_difference < 1e-4
    found = evaluate_file(out, folder, backbone=backbone)
    assert file.manifest.metrics is not None
    assert found.metrics == pytest.approx(file.manifest.metrics.values, abs=1e-4)


def test_logits_are_those_of_the_formula(tmp_path: Path, backbone: Backbone) -> None:
    """Each text in a pass of its own, the mean of its tokens at length one, the head by hand."""
    folder, out = write_pairs(tmp_path / "data", "sentence_pair"), tmp_path / "a.safetensors"
    _trained(folder, out, backbone)
    adapter = examine(out.read_bytes(), backbone).adapter(backbone)
    found = evaluate_file(out, folder, backbone=backbone)
    assert adapter.head is not None
    for item, row in zip(found.texts[:4], found.rows, strict=False):
        assert isinstance(item, tuple)
        with torch.no_grad(), adapter.attached(backbone):
            u, v = (pooled_states(backbone, backbone.pack(backbone.text.encode([t])), "unit") for t in item)
            by_hand = adapter.head(torch.cat([u, v, (u - v).abs(), u * v], 1))[0]
        np.testing.assert_allclose(row.logits, by_hand.numpy(), rtol=1e-5, atol=1e-5)


def test_a_head_learns_to_compare_apart_what_it_cannot_jointly(tmp_path: Path, backbone: Backbone) -> None:
    """Whether both texts are the same: where they are, the difference of their states is nought."""
    folder = write_task(tmp_path / "data", "sentence_pair")
    for split, seed in (("train", 1), ("validation", 2)):
        rows = make_rows("sentence_pair", 120, seed)
        for row in rows:
            row["text_pair"] = row["text"] if row["label"] else row["text_pair"]
        write_rows(folder / f"{split}.jsonl", rows)
    values = {}
    for pooling in ("apart", "mean"):
        config = quick(folder, tmp_path / "a.safetensors", method="linear_probe", pooling=pooling)
        values[pooling] = train(config, backbone=backbone, write_file=False).value
    assert values["apart"] > 0.9 > values["mean"]


@pytest.mark.parametrize("per_row", [1, 2])
def test_features_are_what_the_head_reads(backbone: Backbone, per_row: int) -> None:
    """K of [4H] for each row, in the order of the rows, whatever the batches were."""
    spec = HeadSpec("single_label", ("a", "b"), pooling="apart")
    pairs = [(f"w{k} " * (1 + k % 5), f"w{k + 9} w3") for k in range(8)]
    items = [ChoiceItem("w1 w2", pair) for pair in pairs] if per_row == 2 else pairs
    rows = encode_items(backbone, items, 32, readout=readout_of(spec))
    assert (len(rows), rows.per_row, rows.per_read) == (8, 2 * per_row, 2)
    found = features(backbone, rows, spec, lambda: None)
    assert found.values.shape == (8 * per_row, readout_of(spec).width(backbone.hidden_size))
    assert found.counts.tolist() == [per_row] * 8
    states = pooled_states(backbone, backbone.pack(rows.take([5])), "unit").detach()
    u, v = states[0::2], states[1::2]
    wanted = torch.cat([u, v, (u - v).abs(), u * v], 1)
    torch.testing.assert_close(found.take([5]).values, wanted, **checks.TOLERANCE)


def test_single_texts_are_refused_before_anything_is_trained(tmp_path: Path, backbone: Backbone) -> None:
    folder = write_task(tmp_path / "data", "single_sentence")
    with pytest.raises(ConfigError, match="pooling is 'apart', which reads the two texts of a pair"):
        train(quick(folder, tmp_path / "a.safetensors", pooling="apart"), backbone=backbone)


@pytest.fixture
def written(tmp_path: Path, backbone: Backbone) -> Path:
    folder, out = write_pairs(tmp_path / "data", "sentence_pair"), tmp_path / "a.safetensors"
    train(quick(folder, out, pooling="apart", epochs=0), backbone=backbone, progress=Told(), verify=agree)
    return out


def test_a_head_of_another_width_is_refused(written: Path, backbone: Backbone) -> None:
    """Both ways: a joint head under apart, and an apart one under mean."""
    file = read_adapter_file(written)
    narrow = file.tensors | {"head/weight": file.tensors["head/weight"][:, : backbone.hidden_size]}
    with pytest.raises(Refused) as refused:
        examine(write_adapter(file.manifest, narrow), backbone)
    (failure,) = refused.value.failures
    assert (failure.field, failure.got, failure.allowed) == ("head/weight", "shape [2, 32]", "shape [2, 128]")
    joint = file.manifest.model_copy(
        update={"head": file.manifest.head.model_copy(update={"pooling": "mean"})}
    )
    with pytest.raises(Refused) as refused:
        examine(write_adapter(joint, file.tensors), backbone)
    assert [one.allowed for one in refused.value.failures] == ["shape [2, 32]"]


def test_a_file_that_reads_one_text_is_refused(written: Path) -> None:
    manifest = read_adapter_file(written).manifest
    alone = [probe.model_copy(update={"text_pair": None}) for probe in manifest.probes]
    failures = judge(manifest.head, alone)
    assert len(failures) == len(alone)
    assert failures[0].field == "manifest.probes.0.text_pair"
    assert failures[0].allowed == "A second text: the pooling apart reads pairs"
    plain = manifest.model_dump() | {"probes": [probe.model_dump() for probe in alone]}
    plain["input"] = plain["input"] | {"fields": ["text"]}
    single = type(manifest).model_validate(plain)
    with pytest.raises(AdapterFileError, match="A second text"):
        read_adapter_file_of(write_adapter(single, read_adapter_file(written).tensors))


def read_adapter_file_of(data: bytes) -> None:
    from adapters_store.adapter_file import read_adapter

    read_adapter(data, judge=judge)
