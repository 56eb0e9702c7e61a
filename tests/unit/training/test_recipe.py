"""Whole runs on a tiny backbone: every kind, every method, and a kill at any epoch."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_store.adapter_file import read_adapter_file
from modeling import METHODS, Backbone
from tests.conformance.options import tiny_options
from tests.unit.training.conftest import Told, agree, quick
from training.errors import ConfigError
from training.report.result import TrainResult
from training.run import train
from training.settings.config import TrainConfig


def run(config: TrainConfig, backbone: Backbone, told: Told | None = None) -> TrainResult:
    return train(config, progress=told or Told(), backbone=backbone, verify=agree)


def tensors_digest(path: Path) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(read_adapter_file(path).tensors.items()):
        total.update(name.encode() + tensor.numpy().tobytes())
    return total.hexdigest()


KINDS = ["single_sentence", "sentence_pair", "regression", "multi_label", "multiple_choice"]
NUM_FIELDS = {"sentence_pair": ["text", "text_pair"], "multiple_choice": ["text", "choices"]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_ends_in_a_file(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, kind: str
) -> None:
    config = quick(task_folder(kind), tmp_path / "a.safetensors", epochs=6, report=str(tmp_path / "report"))
    result = run(config, backbone)
    assert ">Scores</h2>" in (tmp_path / "report" / "demo.html").read_text()
    file = read_adapter_file(tmp_path / "a.safetensors")
    manifest = file.manifest
    assert result.file is not None
    assert (result.file.digest, result.file.size_bytes) == (file.digest, file.size_bytes)
    assert manifest.metrics is not None
    assert manifest.metrics.values == pytest.approx(result.metrics)
    assert manifest.metrics.rows == 30
    assert manifest.input.fields == NUM_FIELDS.get(kind, ["text"])
    assert 8 <= len(manifest.probes) <= 32
    assert (manifest.head.threshold is not None) == (kind == "multi_label")
    assert (manifest.head.low is not None) == (kind == "regression")
    assert manifest.provenance.config["epochs"] == 6
    assert str(tmp_path) not in manifest.to_json()
    if kind != "sentence_pair":  # a random backbone says little about pairs
        floor = result.baseline.values.get(result.metric, 0.3)
        assert result.value > floor


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_of_the_registry_is_trained(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, method: str
) -> None:
    before = {name: p.clone() for name, p in backbone.model.state_dict().items()}
    changes = {"method": method, "method_config": tiny_options(method)}
    result = run(quick(task_folder(), tmp_path / "a.safetensors", **changes), backbone)
    stages = {record.stage for record in result.history}
    assert stages - {"refit"} == ({"head", "adapter"} if result.num_body_parameters else {"head"})
    assert read_adapter_file(tmp_path / "a.safetensors").manifest.method.name == method
    after = backbone.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_stage_two_never_ends_worse_than_stage_one(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    result = run(quick(task_folder(), tmp_path / "a.safetensors", lr=5.0), backbone)
    assert result.head_metrics is not None
    assert result.value >= result.head_metrics[result.metric] - 1e-6


def test_the_same_seed_gives_the_same_file_and_another_seed_another(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    digests = []
    for seed in (0, 0, 1):
        out = tmp_path / "a.safetensors"
        run(quick(task_folder(), out, seed=seed), backbone)
        digests.append(tensors_digest(out))
    assert digests[0] == digests[1] != digests[2]


class Killed(Told):
    """Stops the run like a kill would: some steps after `evaluations` epochs are on disk; 4: in the refit."""

    def __init__(self, evaluations: int, steps_more: int) -> None:
        super().__init__()
        self._evaluations, self._steps_more = evaluations, steps_more

    def step(self, loss: float | None) -> None:
        super().step(loss)
        if len(self.epochs) >= self._evaluations:
            self._steps_more -= 1
            if self._steps_more < 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize(("evaluations", "steps_more"), [(0, 2), (0, 5), (1, 0), (3, 3), (4, 0)])
def test_a_killed_run_goes_on_to_the_same_result(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, evaluations: int, steps_more: int
) -> None:
    config = quick(task_folder(), tmp_path / "a.safetensors", epochs=4, train_head=True)
    whole = run(config, backbone)
    expected = tensors_digest(tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors.resume").exists()
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(KeyboardInterrupt):
        run(config, backbone, Killed(evaluations, steps_more))
    assert not (tmp_path / "a.safetensors").exists()
    assert (tmp_path / "a.safetensors.resume").exists() == (evaluations > 0)
    told = Told()
    again = run(config, backbone, told)
    assert tensors_digest(tmp_path / "a.safetensors") == expected
    assert again.history == whole.history
    assert len(told.epochs) == 4 - evaluations
    assert any("resumed from" in note for note in told.notes) == (evaluations > 0)
    assert not (tmp_path / "a.safetensors.resume").exists()


def test_a_checkpoint_of_other_settings_is_not_used(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    folder, out = task_folder(), tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(quick(folder, out), backbone, Killed(2, 0))
    told = Told()
    run(quick(folder, out, lr=1e-3), backbone, told)
    assert any("not used (it belongs to a run with other settings" in note for note in told.notes)
    assert len(told.epochs) == 3


def test_seeds_keep_the_best_and_tell_the_spread(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    result = run(quick(task_folder(), tmp_path / "a.safetensors", seeds=3, seed=4), backbone)
    assert sorted(result.seed_values) == [4, 5, 6]
    assert result.seed_values[result.seed] == max(result.seed_values.values())
    mean, deviation = result.spread
    assert min(result.seed_values.values()) <= mean <= max(result.seed_values.values())
    assert deviation >= 0
    assert list(tmp_path.glob("*.resume")) == []


def test_class_weights_change_what_is_learnt(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    folder = task_folder()
    rows = (folder / "train.jsonl").read_text().splitlines()
    (folder / "train.jsonl").write_text("\n".join(rows[::3] + rows[1:10:3]) + "\n")
    digests = set()
    for setting in ("auto", "none"):
        run(quick(folder, tmp_path / "a.safetensors", class_weights=setting), backbone)
        digests.add(tensors_digest(tmp_path / "a.safetensors"))
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "nope"}, "unknown method 'nope'; known: "),
        ({"method_config": {"rank": 3}}, "unknown option rank"),
        ({"pooling": "pooler"}, "pooling is 'pooler'"),
        ({"max_tokens": 500}, "has positions for 64"),
        ({"fit_head": False, "epochs": 0}, "nothing to train"),
        ({"metric": "f1"}, "metric is 'f1': of 3 labels it needs one"),
        ({"fit_head": False, "method": "linear_probe"}, "nothing to train"),
        ({"method": "prompt_tuning", "method_config": {"tokens": 40}}, "of which the method takes 40"),
        ({"method": "adapter_drop"}, "adapter_drop on tiny-bert: .*first_layer is 5"),
        ({"form": "text-to-text"}, "needs an encoder-decoder .* tiny-bert is an encoder"),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    task_folder: Callable[..., Path],
    tmp_path: Path,
    backbone: Backbone,
    changes: dict[str, Any],
    message: str,
) -> None:
    backbone.model.pooler = None  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=message):
        run(quick(task_folder(), tmp_path / "a.safetensors", **changes), backbone)


@pytest.mark.parametrize("out", ["/proc/nowhere/a.safetensors", "/"])
def test_a_place_that_cannot_be_written_is_refused_before_training(
    task_folder: Callable[..., Path], backbone: Backbone, out: str
) -> None:
    told = Told()
    with pytest.raises(ConfigError, match=f"out is {out}: .*choose another"):
        run(quick(task_folder(), Path(out)), backbone, told)
    assert told.stages == []


def test_a_stage_two_without_effect_is_told(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    config = quick(task_folder(), tmp_path / "a.safetensors", lr=1e-9, lr_head_stage2=1e-9, epochs=1)
    result = run(config, backbone)
    assert result.best_epoch in (0, 1)
    told = any("stage two found nothing better" in warning for warning in result.warnings)
    assert told == (result.best_epoch == 0)


def test_without_a_file_nothing_is_written(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    out = tmp_path / "out" / "a.safetensors"
    result = train(quick(task_folder(), out), backbone=backbone, write_file=False)
    assert result.file is None
    assert not out.parent.exists()


def test_cut_texts_are_told(task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone) -> None:
    told = Told()
    run(quick(task_folder(), tmp_path / "a.safetensors", max_tokens=8), backbone, told)
    assert any("longer than 8 tokens and are cut; tiny-bert takes up to 64" in note for note in told.notes)


def test_a_result_is_plain_json(task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone) -> None:
    import json

    result = run(quick(task_folder(), tmp_path / "a.safetensors"), backbone)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["value"] == result.value
    assert plain["file"]["digest"].startswith("sha256:")
    assert plain["baseline"]["name"].startswith("majority")


def test_full_fine_tuning_learns_and_leaves_the_backbone_alone(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    before = {name: p.clone() for name, p in backbone.model.state_dict().items()}
    config = quick(task_folder(), tmp_path / "a.safetensors", lr=1e-3, epochs=3, method="full")
    results = [train(config, backbone=backbone, write_file=False) for _ in range(2)]
    assert results[0].history == results[1].history
    assert results[0].head_metrics is not None
    assert results[0].metrics["accuracy"] >= results[0].head_metrics["accuracy"]
    assert results[0].num_body_parameters == backbone.num_parameters
    assert results[0].num_head_parameters == 32 * 3 + 3
    after = backbone.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
