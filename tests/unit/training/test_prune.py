"""Layers by how far they moved, scores with ever fewer of them, and the smaller file."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_store.adapter_file import read_adapter_file
from modeling import METHODS, Adapter, Backbone, HeadSpec, ServedModel
from proof.check import CheckReport
from proof.errors import CheckFailed
from tests.conformance.options import tiny_options
from tests.tiny import CONFIGS, random_backbone, tiny_backbone
from tests.unit.training.conftest import Told, agree, quick, write_text_task
from training.errors import ConfigError, PublishError
from training.file.evaluate import evaluate_file
from training.file.prune import layer_drifts, prune_file, with_layers
from training.run import train

SPEC = HeadSpec("single_label", ("low", "middle", "high"))
LAYERS = 6


@pytest.fixture
def deep() -> Backbone:
    config = deepcopy(CONFIGS["bert"])
    config.num_hidden_layers = LAYERS
    return random_backbone(config)


def moved(backbone: Backbone, method: str, amounts: dict[int, float], **options: Any) -> Adapter:
    """An adapter whose layers moved by chosen amounts, in every number."""
    adapter = Adapter.create(backbone, METHODS[method].from_config(options), SPEC)
    with torch.no_grad():
        for tap, module in adapter.body.items():
            for parameter in module.parameters():
                parameter.add_(amounts.get(tap.layer, 0.0))
    return adapter


@pytest.mark.parametrize("method", ["hadamard", "bitfit", "ia3", "ln_tuning"])
def test_layers_are_ranked_by_what_they_moved(deep: Backbone, method: str) -> None:
    adapter = moved(deep, method, {0: 0.1, 1: 0.5, 2: -0.4, 3: 0.2, 4: 0.0, 5: 0.3})
    drifts = layer_drifts(adapter, deep)
    assert [drift.layer for drift in drifts] == [1, 2, 5, 3, 0, 4]
    per_layer = adapter.num_body_parameters // LAYERS
    assert {drift.parameters for drift in drifts} == {per_layer}
    tensors = sum(len(list(module.parameters())) for tap, module in adapter.body.items() if tap.layer == 1)
    assert drifts[0].drift == pytest.approx(tensors * 0.25, rel=1e-4)
    assert drifts[-1].drift == 0.0


def test_a_wide_tensor_weighs_no_more_than_a_narrow_one(deep: Backbone) -> None:
    """The square is a mean over the tensor's own numbers: a feed-forward bias counts as any other."""
    adapter = moved(deep, "bitfit", {1: 0.1})
    with torch.no_grad():
        for tap, module in adapter.body.items():
            for parameter in module.parameters():
                if tap.layer == 2 and tap.site == "ffn_up":
                    parameter.fill_(0.1)
                if tap.layer == 3 and tap.site == "ffn_out":
                    parameter.fill_(0.1)
    found = {drift.layer: drift.drift for drift in layer_drifts(adapter, deep)}
    assert found[2] == pytest.approx(found[3])
    assert found[1] > found[2] > found[0] == 0.0


def test_layers_that_are_left_out_are_the_frozen_models(deep: Backbone) -> None:
    adapter = moved(deep, "hadamard", {1: 0.2, 3: -0.3, 5: 0.1})
    encoded = deep.text.encode(["w1 w2 w3", "w7"], 16)
    by_hand = moved(deep, "hadamard", {1: 0.2, 5: 0.1})
    by_hand.head = adapter.head
    model = ServedModel(deep)
    outputs = []
    for one in (with_layers(adapter, deep, (1, 5)), by_hand):
        slot = model.install(one.pack())
        outputs.append(model.run(encoded, [model.placement(slot).body_slot] * 2, [(0, slot), (1, slot)]))
    for left, right in zip(*outputs, strict=True):
        torch.testing.assert_close(torch.from_numpy(left), torch.from_numpy(right))


@pytest.mark.parametrize("method", ["compacter", "houlsby", "lora", "linear_probe", "full", "prompt_tuning"])
def test_a_method_without_a_neutral_value_is_refused(deep: Backbone, method: str) -> None:
    adapter = Adapter.create(deep, METHODS[method].from_config(tiny_options(method)), SPEC)
    with pytest.raises(ConfigError, match=f"method {method}"):
        layer_drifts(adapter, deep)


@pytest.fixture
def trained(task_folder: Callable[..., Path], tmp_path: Path, deep: Backbone) -> tuple[Path, Path]:
    folder, out = task_folder(), tmp_path / "demo.safetensors"
    train(quick(folder, out, epochs=4, lr=2e-2, fit_head=False), backbone=deep, verify=agree)
    return out, folder


def test_a_pruned_file_is_smaller_and_says_what_it_scores(
    trained: tuple[Path, Path], deep: Backbone, tmp_path: Path
) -> None:
    out, folder = trained
    told = Told()
    result = prune_file(
        out, folder, keep=2, backbone=deep, report=tmp_path / "report", progress=told, verify=agree
    )
    old, new = read_adapter_file(out), read_adapter_file(tmp_path / "demo.pruned.safetensors")
    assert result.file.path == str(tmp_path / "demo.pruned.safetensors")
    assert result.kept == tuple(sorted(drift.layer for drift in result.drifts[:2]))
    assert new.manifest.method.config == old.manifest.method.config | {"layers": list(result.kept)}
    assert new.size_bytes < old.size_bytes
    assert {name.split(".")[1] for name in new.tensors if "." in name} == {str(i) for i in result.kept}
    assert all(torch.equal(new.tensors[name], old.tensors[name]) for name in new.tensors)
    assert new.manifest.provenance.config["pruned_from"] == old.digest
    assert [len(score.layers) for score in result.scores] == [6, 5, 4, 3, 2, 1]
    counts = [score.parameters for score in result.scores]
    assert counts == [counts[-1] * n for n in (6, 5, 4, 3, 2, 1)]
    found = evaluate_file(tmp_path / "demo.pruned.safetensors", folder, backbone=deep)
    assert found.metrics == pytest.approx(result.scores[4].metrics, abs=1e-6)
    assert evaluate_file(out, folder, backbone=deep).metrics == pytest.approx(
        result.scores[0].metrics, abs=1e-6
    )
    assert new.manifest.metrics is not None
    assert new.manifest.metrics.values == pytest.approx(result.scores[4].metrics)
    by_text = {text: row.logits for text, row in zip(found.texts, found.rows, strict=True)}
    for probe in new.manifest.probes:
        assert by_text[probe.text] == pytest.approx(probe.logits, abs=1e-5)
    assert (tmp_path / "report" / "demo-layers.png").read_bytes()[:4] == b"\x89PNG"
    assert ("prune", 6) in told.stages
    plain = result.to_dict()
    assert plain["scores"][4]["layers"] == list(result.kept)
    assert plain["file"]["digest"] == new.digest


def test_two_thirds_are_kept_and_a_pruned_file_can_be_pruned_again(
    trained: tuple[Path, Path], deep: Backbone, tmp_path: Path
) -> None:
    out, folder = trained
    first = prune_file(out, folder, backbone=deep, verify=agree)
    assert len(first.kept) == 4
    again = prune_file(
        Path(first.file.path), folder, keep=1, out=tmp_path / "one.safetensors", backbone=deep, verify=agree
    )
    assert set(again.kept) < set(first.kept)
    assert len(again.scores) == 4


def test_half_precision_stays_half_precision(
    task_folder: Callable[..., Path], tmp_path: Path, deep: Backbone
) -> None:
    out, folder = tmp_path / "h.safetensors", task_folder()
    train(
        quick(folder, out, epochs=4, lr=2e-2, file_dtype="float16", fit_head=False),
        backbone=deep,
        verify=agree,
    )
    smaller = prune_file(out, folder, keep=3, backbone=deep, verify=agree)
    assert smaller.file.size_bytes < out.stat().st_size


@pytest.mark.parametrize("keep", [7, 99])
def test_more_layers_than_there_are_cannot_be_kept(
    trained: tuple[Path, Path], deep: Backbone, keep: int
) -> None:
    out, folder = trained
    with pytest.raises(ConfigError, match=f"keep is {keep}; the adapter has 6 layers: allowed are 1 to 6"):
        prune_file(out, folder, keep=keep, backbone=deep, verify=agree)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_adapter_that_never_moved_is_refused(
    task_folder: Callable[..., Path], tmp_path: Path, deep: Backbone, dtype: str
) -> None:
    """Rounding the norms to half precision is no drift."""
    out, folder = tmp_path / "still.safetensors", task_folder()
    train(quick(folder, out, epochs=0, file_dtype=dtype), backbone=deep, verify=agree)
    with pytest.raises(ConfigError, match="no layer of this adapter moved .*: train it first"):
        prune_file(out, folder, keep=2, backbone=deep, verify=agree)
    assert not (tmp_path / "still.pruned.safetensors").exists()


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([0, 4], r"two thirds of 2 layers are 2: .*nothing is written; .*--keep 1\)"),
        ([3], "no smaller adapter"),
    ],
)
def test_two_thirds_of_so_few_layers_drop_nothing(
    task_folder: Callable[..., Path], tmp_path: Path, deep: Backbone, layers: list[int], says: str
) -> None:
    out, folder = tmp_path / "few.safetensors", task_folder()
    changes: dict[str, Any] = {"method_config": {"layers": layers}, "lr": 2e-2, "fit_head": False}
    train(quick(folder, out, **changes), backbone=deep, verify=agree)
    with pytest.raises(ConfigError, match=says):
        prune_file(out, folder, backbone=deep, verify=agree)
    assert not (tmp_path / "few.pruned.safetensors").exists()
    assert prune_file(out, folder, keep=1, backbone=deep, verify=agree).scores


def test_a_backbone_that_is_only_named_is_asked_for(trained: tuple[Path, Path]) -> None:
    out, folder = trained
    with pytest.raises(ConfigError, match="neither minilm nor a directory here; .*--backbone"):
        prune_file(out, folder, keep=2, verify=agree)


def test_a_file_that_does_not_check_leaves_nothing(
    trained: tuple[Path, Path], deep: Backbone, tmp_path: Path
) -> None:
    out, folder = trained

    def refuse(path: Path, name: str) -> CheckReport:
        raise CheckFailed(f"{path.name} was refused by {name}")

    with pytest.raises(PublishError, match="was refused by tiny-bert"):
        prune_file(out, folder, keep=2, backbone=deep, verify=refuse)
    assert not (tmp_path / "demo.pruned.safetensors").exists()


def test_a_text_task_keeps_what_belongs_to_no_layer(tmp_path: Path) -> None:
    """T5 in both stacks: the same layers are kept in each, and the output layer's shift stays."""
    backbone = tiny_backbone("t5")
    folder, out = write_text_task(tmp_path / "d"), tmp_path / "text.safetensors"
    config = quick(folder, out, form="text-to-text", targets="words", method="bitfit", epochs=2)
    train(config, backbone=backbone, verify=agree)
    result = prune_file(out, folder, keep=1, backbone=backbone, verify=agree)
    names = read_adapter_file(Path(result.file.path)).tensors
    (layer,) = result.kept
    stacks = {name.split("/")[0].split(".")[0] for name in names}
    assert stacks == {"encoder", "decoder", "cross"}
    assert {name.split(".")[1] for name in names if name != "decoder.lm_head/shift"} == {str(layer)}
    assert "decoder.lm_head/shift" in names
    found = evaluate_file(Path(result.file.path), folder, backbone=backbone)
    assert found.metrics == pytest.approx(result.scores[1].metrics, abs=1e-6)
