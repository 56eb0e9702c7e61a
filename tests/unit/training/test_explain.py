"""Answers taken apart: they are the file's own, effects are their differences, and of every kind of task."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modeling import KINDS, Backbone, kind_of
from tests.conformance import checks
from tests.conformance.options import tiny_options
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, quick, write_text_task
from tests.unit.training.test_free_text import FREE, write_answers
from training.errors import ConfigError, DataError
from training.file.evaluate import FileEvaluation, build_adapter, evaluate_file, stored_file
from training.file.explain import Explanation, explain_file
from training.file.prune import with_layers
from training.rows.items import ChoiceItem, Item
from training.run import train

Built = tuple[Path, Path]


@pytest.fixture
def built(task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone) -> Callable[..., Built]:
    def build(kind: str = "single_sentence", **changes: Any) -> Built:
        folder, out = task_folder(kind), tmp_path / f"{changes.get('method', 'a')}.safetensors"
        settings: dict[str, Any] = {"lr": 3e-2, "fit_head": False, "epochs": 4, **changes}
        train(quick(folder, out, **settings), backbone=backbone, progress=Told(), verify=agree)
        return out, folder

    return build


def same_answers(found: Explanation, evaluated: FileEvaluation) -> None:
    rows = dict(zip(evaluated.texts, evaluated.rows, strict=True))
    for one in found.texts:
        row = rows[one.text]
        assert one.whole.score == pytest.approx(row.score, abs=1e-5)
        if row.label is None or not isinstance(one.text, ChoiceItem):
            assert one.whole.label == row.label


@pytest.mark.parametrize(
    "kind", ["single_sentence", "sentence_pair", "regression", "multi_label", "multiple_choice"]
)
def test_the_whole_answer_is_the_one_that_the_file_is_scored_by(
    built: Callable[..., Built], backbone: Backbone, kind: str
) -> None:
    out, folder = built(kind)
    evaluated = evaluate_file(out, folder, backbone=backbone)
    found = explain_file(out, evaluated.texts[:6], backbone=backbone)
    same_answers(found, evaluated)
    for one in found.texts:
        assert [effect.name for effect in one.effects] == ["layer 0", "layer 1"]
        for effect in one.effects:
            assert effect.lost == pytest.approx(one.whole.margin - effect.off.margin)
            assert effect.gained == pytest.approx(effect.alone.margin - one.without.margin)
        assert one.effects[0].off == pytest.approx(one.effects[1].alone)  # of two layers
        assert (one.label is None) == (kind == "regression")
    lost = [abs(effect.lost) for one in found.texts for effect in one.effects]
    assert max(lost) > 1e-3
    told = found.to_dict()["texts"][0]
    assert told["effects"][0]["off"]["margin"] == found.texts[0].effects[0].off.margin
    extra = {"sentence_pair": "text_pair", "multiple_choice": "choices"}.get(kind)
    assert {"text_pair", "choices"} & told.keys() == ({extra} if extra else set())
    assert all(isinstance(told[name], str) for name in {"text", "text_pair"} & told.keys())


def test_off_and_alone_are_the_answers_of_adapters_with_fewer_layers(
    built: Callable[..., Built], backbone: Backbone
) -> None:
    """As `prune` makes them: from tensors, those of the layer that is left out being gone."""
    out, _ = built()
    (one,) = explain_file(out, ["w1 w2 w70"], backbone=backbone).texts
    adapter = build_adapter(stored_file(out), backbone)
    encoded = backbone.text.encode(["w1 w2 w70"])
    index = adapter.spec.labels.index(str(one.label))
    for layer, effect in enumerate(one.effects):
        for layers, standing in ((1 - layer, effect.off), (layer, effect.alone)):
            smaller = with_layers(adapter, backbone, (layers,))
            logits = checks.logits_alone(backbone, smaller, encoded[0]).double().numpy()[None]
            margin = kind_of(adapter.spec).margin(adapter.spec, logits, index)
            assert standing.margin == pytest.approx(margin[0], abs=1e-5)
    assert abs(one.effects[0].off.margin - one.effects[0].alone.margin) > 1e-3


def test_the_margin_is_in_the_units_of_the_data(built: Callable[..., Built], backbone: Backbone) -> None:
    out, folder = built("regression")
    evaluated = evaluate_file(out, folder, backbone=backbone)
    found = explain_file(out, evaluated.texts[:3], backbone=backbone)
    for one, row in zip(found.texts, evaluated.rows, strict=False):
        assert one.whole.margin == pytest.approx(row.logits[0], abs=1e-4)
        assert one.whole.probability is None


def test_another_label_is_explained_on_demand(built: Callable[..., Built], backbone: Backbone) -> None:
    out, folder = built()
    (text, *_) = evaluate_file(out, folder, backbone=backbone).texts
    own = explain_file(out, [text], backbone=backbone).texts[0]
    assert own.label == own.whole.label
    assert own.whole.margin > 0
    for label in {"low", "middle", "high"} - {own.label}:
        (other,) = explain_file(out, [text], label=label, backbone=backbone).texts
        assert other.label == label
        assert other.whole.label == own.whole.label
        assert other.whole.margin < 0
        assert other.whole.probability is not None
        assert other.whole.probability < own.whole.score


def test_heads_are_told_of_a_hadamard_adapter_alone(built: Callable[..., Built], backbone: Backbone) -> None:
    out, _ = built()
    (one,) = explain_file(out, ["w1 w2"], backbone=backbone).texts
    assert [layer.name for layer in one.attention_heads] == ["layer 0", "layer 1"]
    for layer in one.attention_heads:
        assert len(layer.scale) == len(layer.shift) == 4
        assert layer.change is not None
        assert min(layer.change) > 0
    out, _ = built(method="bitfit")
    assert explain_file(out, ["w1 w2"], backbone=backbone).texts[0].attention_heads == ()


@pytest.mark.parametrize("method", ["lora", "compacter", "prompt_tuning", "ia3"])
def test_every_method_with_parts_is_taken_apart(
    built: Callable[..., Built], backbone: Backbone, method: str
) -> None:
    out, folder = built(method=method, method_config=tiny_options(method), max_tokens=32)
    evaluated = evaluate_file(out, folder, backbone=backbone)
    found = explain_file(out, evaluated.texts[:3], backbone=backbone)
    same_answers(found, evaluated)
    names = [effect.name for effect in found.texts[0].effects]
    assert names == (["prompt"] if method == "prompt_tuning" else ["layer 0", "layer 1"])
    assert found.notes == ()


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("full", "full puts other weights in place of all the backbone's at once: .* only the answers with"),
        ("intrinsic_said", "intrinsic_said puts other weights .* only the answers with and without"),
        ("linear_probe", "linear_probe has a head alone"),
    ],
)
def test_what_has_no_layers_says_so(
    built: Callable[..., Built], backbone: Backbone, method: str, says: str
) -> None:
    options: dict[str, Any] = {"method_config": tiny_options(method)}
    if method == "linear_probe":
        options |= {"epochs": 0, "fit_head": True}
    out, folder = built(method=method, **options)
    evaluated = evaluate_file(out, folder, backbone=backbone)
    found = explain_file(out, evaluated.texts[:2], backbone=backbone)
    same_answers(found, evaluated)
    assert found.texts[0].effects == ()
    (note,) = found.notes
    assert re.search(says, note)
    moved = abs(found.texts[0].whole.margin - found.texts[0].without.margin)
    assert (moved == 0) == (method == "linear_probe")


def test_label_strings_are_weighed_by_their_log_probabilities(tmp_path: Path) -> None:
    backbone = tiny_backbone("t5")
    folder, out = write_text_task(tmp_path / "d"), tmp_path / "t.safetensors"
    config = quick(folder, out, form="text-to-text", targets="words", method="bitfit", lr=1e-2)
    train(config, backbone=backbone, verify=agree)
    evaluated = evaluate_file(out, folder, backbone=backbone)
    found = explain_file(out, evaluated.texts[:4], backbone=backbone)
    same_answers(found, evaluated)
    for one, row in zip(found.texts, evaluated.rows, strict=False):
        first, second, *_ = sorted(row.logits, reverse=True)
        assert one.whole.margin == pytest.approx(first - second, abs=1e-4)
        assert len(one.effects) == 5  # both layers of both stacks, and the output layer's shift
        assert one.attention_heads == ()


def test_a_written_text_is_weighed_by_its_log_probability(tmp_path: Path) -> None:
    backbone = tiny_backbone("t5")
    folder, out = write_answers(tmp_path / "d"), tmp_path / "f.safetensors"
    train(quick(folder, out, **FREE), backbone=backbone, progress=Told(), verify=agree)
    evaluated = evaluate_file(out, folder, backbone=backbone)
    found = explain_file(out, evaluated.texts[:3], backbone=backbone)
    for one, row in zip(found.texts, evaluated.rows, strict=False):
        assert one.whole.label == row.generated
        assert one.label is None
        assert one.whole.margin < 0
        assert one.whole.probability == pytest.approx(2.718281828**one.whole.margin)
        assert all(isinstance(effect.off.label, str) for effect in one.effects)


@pytest.mark.parametrize(
    ("kind", "item", "label", "error", "says"),
    [
        ("single_sentence", ("w1", "w2"), None, DataError, "reads one text (text): leave --text-pair out"),
        ("sentence_pair", "w1", None, DataError, "reads two texts (text, text_pair): give --text-pair for"),
        ("single_sentence", ChoiceItem("w1", ("a", "b")), None, DataError, "is a single_label: no --choice"),
        ("multiple_choice", "w1", None, DataError, "chooses: give --choice twice or more"),
        ("single_sentence", "w1", "best", ConfigError, "--label is 'best'; allowed: low, middle, high"),
        ("regression", "w1", "low", ConfigError, "--label is 'low'; a regression has none to choose"),
        ("single_sentence", "w1 \ud83d", None, DataError, "is not whole at character 3: send it as UTF-8"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(
    built: Callable[..., Built],
    backbone: Backbone,
    kind: str,
    item: Item,
    label: str | None,
    error: type[Exception],
    says: str,
) -> None:
    out, _ = built(kind, epochs=1)
    with pytest.raises(error) as caught:
        explain_file(out, [item], label=label, backbone=backbone)
    assert says in str(caught.value)


def test_a_kind_without_a_single_answer_is_refused(
    built: Callable[..., Built], backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = built(epochs=1)
    monkeypatch.setattr(type(KINDS["single_label"]), "margin_word", None)
    with pytest.raises(DataError, match="task demo is a single_label: it has no single answer"):
        explain_file(out, ["w1"], backbone=backbone)


def test_a_cut_text_is_told(built: Callable[..., Built], backbone: Backbone) -> None:
    out, _ = built(epochs=1, max_tokens=8)
    (one,) = explain_file(out, [" ".join(["w1"] * 20)], backbone=backbone).texts
    assert (one.tokens, one.truncated) == (22, True)
