"""Manifests: every violation is one failure in its own place, also between parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from adapters_store.manifest import HeadRef, Manifest, parse_manifest, schema_version_of
from proof.candidate import judge

Path = tuple[str | int, ...]


def changed(manifest: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """`manifest` with `value` at `path`; ... removes what is there."""
    target: Any = manifest
    for step in path[:-1]:
        target = target[step]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return manifest


def places(manifest: dict[str, Any]) -> set[str]:
    """Of all failures, those of kinds among them."""
    parsed = parse_manifest(json.dumps(manifest), judge=judge)
    assert (parsed.manifest is None) == bool(parsed.failures)
    assert all(f.got and f.allowed and f.remedy for f in parsed.failures)
    return {failure.field for failure in parsed.failures}


def test_a_sound_manifest_round_trips(manifest_dict: dict[str, Any]) -> None:
    parsed = parse_manifest(json.dumps(manifest_dict))
    assert parsed.manifest is not None
    assert json.loads(parsed.manifest.to_json()) == manifest_dict
    assert parse_manifest(parsed.manifest.to_json()).manifest == parsed.manifest


def test_json_is_canonical(manifest_dict: dict[str, Any]) -> None:
    backwards = dict(reversed(manifest_dict.items()))
    assert Manifest.model_validate(manifest_dict).to_json() == Manifest.model_validate(backwards).to_json()


def test_texts_of_any_script_round_trip(manifest_dict: dict[str, Any]) -> None:
    manifest_dict["head"]["labels"] = ["أخرى", "その他", "🙂"]
    manifest_dict["probes"][0]["text"] = ""
    manifest_dict["probes"][1]["text"] = "a\u2028b\x00c\n"
    assert places(manifest_dict) == set()


def test_a_manifest_cannot_be_changed(manifest: Manifest) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest.task = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("task",), "Upper"),
        (("task",), "../../etc/passwd"),
        (("task",), "a/b"),
        (("task",), ""),
        (("task",), "x" * 65),
        (("task",), "name\n"),
        (("task",), 3),
        (("task",), ...),
        (("created",), "yesterday"),
        (("created",), "2026-01-31T12:00:00"),
        (("created",), "2026-01-31T12:00:00+02:00"),
        (("description",), "x" * 2001),
        (("surprise",), 1),
        (("backbone", "weights_digest"), "sha256:abc"),
        (("backbone", "config_digest"), "md5:" + "0" * 64),
        (("backbone", "weights_digest"), "sha256:" + "A" * 64),
        (("backbone", "name"), ""),
        (("backbone", "name"), "\x1b[2J"),
        (("method", "name"), "Hadamard"),
        (("method", "config"), [1]),
        (("method", "extra"), 1),
        (("head", "kind"), "ranking"),
        (("head", "pooling"), "max"),
        (("head", "labels"), []),
        (("head", "labels", 1), ""),
        (("head", "labels", 1), "x" * 201),
        (("head", "labels", 1), 7),
        (("head", "labels", 1), "a\nb"),
        (("input", "fields"), []),
        (("input", "fields"), ["a", "b", "c"]),
        (("input", "max_tokens"), 0),
        (("input", "max_tokens"), 128.0),
        (("input", "max_tokens"), "128"),
        (("input", "max_tokens"), True),
        (("input", "truncation"), "only_first"),
        (("metrics", "rows"), -1),
        (("metrics", "values", "accuracy"), "high"),
        (("provenance", "seed"), 1.5),
        (("probes", 3, "text"), None),
        (("probes", 3, "logits", 1), "0.5"),
        (("probes", 3, "extra"), 1),
        (("probes", 3), 1),
        (("probes",), []),
    ],
)
def test_each_violation_is_reported_in_its_place(
    manifest_dict: dict[str, Any], path: Path, value: Any
) -> None:
    assert places(changed(manifest_dict, path, value)) == {".".join(map(str, ("manifest", *path)))}


@pytest.mark.parametrize("count", [0, 7, 33])
def test_there_are_8_to_32_probes(manifest_dict: dict[str, Any], count: int) -> None:
    manifest_dict["probes"] = manifest_dict["probes"][:1] * count
    assert places(manifest_dict) == {"manifest.probes"}


def test_metrics_may_be_absent(manifest_dict: dict[str, Any]) -> None:
    assert places(changed(manifest_dict, ("metrics",), None)) == set()


def test_ten_thousand_labels_are_the_limit(manifest_dict: dict[str, Any]) -> None:
    for count, expected in ((10_000, set[str]()), (10_001, {"manifest.head.labels"})):
        manifest_dict["head"]["labels"] = [str(index) for index in range(count)]
        for probe in manifest_dict["probes"]:
            probe["logits"] = [0.0] * 10_000
        assert places(manifest_dict) == expected


Head = dict[str, Any]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ({"labels": ["a", "b", "a"]}, {"manifest.head.labels.2"}),
        ({"labels": ["a", "a", "a"]}, {"manifest.head.labels.1", "manifest.head.labels.2"}),
        ({"threshold": 0.5}, {"manifest.head.threshold"}),
        ({"low": 0.0, "high": 1.0}, {"manifest.head.low", "manifest.head.high"}),
        ({"kind": "multi_label", "threshold": 0.5}, set()),
        ({"kind": "multi_label", "threshold": 1.0}, {"manifest.head.threshold"}),
        ({"kind": "regression"}, {"manifest.head.labels"}),
        ({"low": 2.0, "high": 1.0}, {"manifest.head.low", "manifest.head.high"}),
        ({"low": 2.0}, {"manifest.head.low"}),
        ({"kind": "Single Label"}, {"manifest.head.kind"}),
        ({"kind": "text_to_text"}, {"manifest.head.pooling"}),
        ({"pooling": "none", "threshold": 0.5}, {"manifest.head.pooling", "manifest.head.threshold"}),
    ],
)
def test_heads_are_consistent(manifest_dict: dict[str, Any], head: Head, expected: set[str]) -> None:
    manifest_dict["head"] |= head
    assert places(manifest_dict) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (None, None, set()),
        (0.0, 5.0, set()),
        (0, 5, set()),
        (5.0, 0.0, {"manifest.head.low"}),
        (1.0, 1.0, {"manifest.head.low"}),
        (0.0, None, {"manifest.head.low"}),
    ],
)
def test_the_range_of_a_regression(
    manifest_dict: dict[str, Any], low: float | None, high: float | None, expected: set[str]
) -> None:
    manifest_dict["head"] |= {"kind": "regression", "labels": ["urgency"], "low": low, "high": high}
    for probe in manifest_dict["probes"]:
        probe["logits"] = [0.5]
    assert places(manifest_dict) == expected


def pair_without_second_text(manifest: dict[str, Any]) -> None:
    manifest["input"]["fields"] = ["text", "other"]
    for probe in manifest["probes"][1:]:
        probe["text_pair"] = "second"


def single_with_second_text(manifest: dict[str, Any]) -> None:
    manifest["probes"][0]["text_pair"] = "second"


def logit_too_many(manifest: dict[str, Any]) -> None:
    manifest["probes"][0]["logits"].append(0.0)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (pair_without_second_text, "manifest.probes.0.text_pair"),
        (single_with_second_text, "manifest.probes.0.text_pair"),
        (logit_too_many, "manifest.probes.0.logits"),
    ],
)
def test_probes_fit_the_labels_and_the_fields(
    manifest_dict: dict[str, Any], change: Callable[[dict[str, Any]], None], place: str
) -> None:
    change(manifest_dict)
    assert places(manifest_dict) == {place}
    manifest_dict["task"] = "Bad Name"  # an unrelated failure does not hide it
    assert places(manifest_dict) == {place, "manifest.task"}


def as_multiple_choice(manifest: dict[str, Any]) -> dict[str, Any]:
    manifest["head"] |= {"kind": "multiple_choice", "labels": ["choice"]}
    for index, probe in enumerate(manifest["probes"]):
        probe["choices"] = [f"choice {k}" for k in range(2 + index)]
        probe["logits"] = [0.5] * (2 + index)
    return manifest


def as_text_to_text(manifest: dict[str, Any]) -> dict[str, Any]:
    manifest["head"] |= {"kind": "text_to_text", "pooling": "none"}
    return manifest


@pytest.mark.parametrize("fields", [["premise"], ["premise", "choices"]])
def test_a_multiple_choice_has_probes_with_choices(manifest_dict: dict[str, Any], fields: list[str]) -> None:
    manifest_dict["input"]["fields"] = fields
    assert places(as_multiple_choice(manifest_dict)) == set()


def test_probes_without_choices_are_written_as_ever(manifest_dict: dict[str, Any]) -> None:
    """So that equal adapters of the older kinds still give equal bytes, which older readers accept."""
    assert '"choices"' not in Manifest.model_validate(manifest_dict).to_json()
    written = Manifest.model_validate(as_multiple_choice(manifest_dict)).to_json()
    assert json.loads(written) == manifest_dict


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("head", "labels"), ["yes"], "head.labels"),
        (("head", "labels"), ["choice", "other"], "head.labels"),
        (("head", "pooling"), "none", "head.pooling"),
        (("head", "threshold"), 0.5, "head.threshold"),
        (("probes", 1, "choices"), ..., "probes.1.choices"),
        (("probes", 1, "choices"), None, "probes.1.choices"),
        (("probes", 1, "choices"), ["one"], "probes.1.choices"),
        (("probes", 1, "choices"), ["one"] * 101, "probes.1.choices"),
        (("probes", 1, "choices"), ["one", "two"], "probes.1.logits"),
        (("probes", 1, "choices"), ["one", "two", 3], "probes.1.choices.2"),
        (("probes", 1, "text_pair"), "second", "probes.1.text_pair"),
    ],
)
def test_violations_of_a_multiple_choice(
    manifest_dict: dict[str, Any], path: Path, value: Any, place: str
) -> None:
    assert places(changed(as_multiple_choice(manifest_dict), path, value)) == {f"manifest.{place}"}


def test_probes_without_the_choices_of_their_kind_are_told_that_alone(manifest_dict: dict[str, Any]) -> None:
    manifest_dict["head"] |= {"kind": "multiple_choice", "labels": ["choice"]}
    assert places(manifest_dict) == {f"manifest.probes.{index}.choices" for index in range(8)}


def test_choices_belong_to_multiple_choice_alone(manifest_dict: dict[str, Any]) -> None:
    manifest_dict["probes"][2]["choices"] = ["a", "b", "c"]
    assert places(manifest_dict) == {"manifest.probes.2.choices"}


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ((), None, None),
        (("head", "labels"), ["true"], "probes"),
        (("head", "pooling"), "mean", "head.pooling"),
        (("head", "pooling"), "eos", "head.pooling"),
        (("head", "labels"), [], "head.max_new_tokens"),
        (("head", "max_new_tokens"), 5, "head.max_new_tokens"),
        (("probes", 3, "target"), "x", "probes.3.target"),
        (("head", "labels", 0), "", "head.labels.0"),
        (("head", "threshold"), 0.5, "head.threshold"),
    ],
)
def test_a_text_to_text_has_label_strings_and_no_pooling(
    manifest_dict: dict[str, Any], path: Path, value: Any, place: str | None
) -> None:
    manifest = as_text_to_text(manifest_dict)
    found = places(changed(manifest, path, value) if path else manifest)
    if place == "probes":  # one label is enough, but then there is one logit
        assert found == {f"manifest.probes.{index}.logits" for index in range(8)}
    elif value == []:  # without labels the probes are wrong as well
        assert found > {f"manifest.{place}"}
    else:
        assert found == ({f"manifest.{place}"} if place else set())


def test_heads_on_encoder_decoders_read_the_end_of_the_text(manifest_dict: dict[str, Any]) -> None:
    manifest_dict["head"]["pooling"] = "eos"
    assert places(manifest_dict) == set()
    manifest_dict["head"]["pooling"] = "none"
    assert places(manifest_dict) == {"manifest.head.pooling"}


@pytest.mark.parametrize("version", [3, 0, "1", True, 1.0, None, ...])
def test_another_schema_version_is_the_only_failure(manifest_dict: dict[str, Any], version: Any) -> None:
    manifest_dict["task"] = "Bad Name"
    assert places(changed(manifest_dict, ("schema_version",), version)) == {"manifest.schema_version"}


@pytest.mark.parametrize(
    ("old", "new", "got"),
    [
        ('"seed": 1', '"seed": 1, "seed": 2', "the key 'seed' twice"),
        ('"accuracy": 0.9', '"accuracy": 0.9, "accuracy": 0.1', "the key 'accuracy' twice"),
        ('"lr": 0.005', '"lr": NaN', "the number 'NaN'"),
        ('"lr": 0.005', '"lr": -Infinity', "the number '-Infinity'"),
        ('"lr": 0.005', '"lr": 1e999', "the number '1e999'"),
        ('"accuracy": 0.9', '"accuracy": NaN', "the number 'NaN'"),
        ('"text 3"', '"\\ud800"', "invalid JSON|surrogate|unicode|escape"),
        ('"lr": 0.005', '"lr": ' + "[" * 500 + "]" * 500, "recursion|nested|Invalid|\\[\\["),
    ],
)
def test_json_that_two_readers_could_read_differently(
    manifest_dict: dict[str, Any], old: str, new: str, got: str
) -> None:
    text = json.dumps(manifest_dict)
    assert old in text
    parsed = parse_manifest(text.replace(old, new, 1))
    assert parsed.manifest is None
    pattern = got.split("|")
    assert any(part.replace("\\", "") in str(f) for f in parsed.failures for part in pattern), parsed.failures


def test_the_number_of_keys_is_bounded(manifest_dict: dict[str, Any]) -> None:
    manifest_dict |= {f"key {index}": 1 for index in range(1_000)}
    assert places(manifest_dict) == {"manifest"}


def test_of_many_bad_logits_one_for_each_probe_is_enough(manifest_dict: dict[str, Any]) -> None:
    for probe in manifest_dict["probes"]:
        probe["logits"] = ["x"] * 3
    assert places(manifest_dict) == {f"manifest.probes.{index}.logits.0" for index in range(8)}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ud800", '"x"', "{} {}"])
def test_text_that_is_no_object(text: str) -> None:
    parsed = parse_manifest(text)
    assert parsed.manifest is None
    assert {failure.field for failure in parsed.failures} == {"manifest"}


def test_num_labels_is_told_even_when_the_manifest_is_not_valid(manifest_dict: dict[str, Any]) -> None:
    parsed = parse_manifest(json.dumps(changed(manifest_dict, ("task",), "Bad Name")))
    assert parsed.num_labels == 3


@pytest.mark.parametrize(
    ("head", "has_head"),
    [
        ({"kind": "text_to_text", "pooling": "none"}, False),
        ({"kind": "regression"}, True),
        ({"kind": []}, True),
        (None, True),
    ],
)
def test_whether_there_is_a_head_is_told_as_well(
    manifest_dict: dict[str, Any], head: Any, has_head: bool
) -> None:
    parsed = parse_manifest(json.dumps(changed(manifest_dict, ("head",), head)))
    assert parsed.has_head is has_head


@pytest.mark.parametrize("head", [None, 1, {}, {"labels": 3}])
def test_num_labels_is_unknown_without_a_list(manifest_dict: dict[str, Any], head: Any) -> None:
    parsed = parse_manifest(json.dumps(changed(manifest_dict, ("head",), head)))
    assert parsed.num_labels is None
    assert parsed.failures


_ABSTAIN = {
    "threshold": 0.6,
    "target_error": 0.05,
    "coverage": 0.8,
    "error": 0.02,
    "error_bound": 0.05,
    "rows": 200,
}


@pytest.mark.parametrize(
    ("version", "field", "value", "place"),
    [
        (2, "temperature", 1.7, None),
        (2, "abstain", _ABSTAIN, None),
        (1, "temperature", 1.7, "head.temperature"),
        (1, "abstain", _ABSTAIN, "head.abstain"),
        (1, "temperature", None, None),
        (2, "temperature", 0.0, "head.temperature"),
        (2, "temperature", 101.0, "head.temperature"),
        (2, "abstain", _ABSTAIN | {"threshold": 0.0}, "head.abstain.threshold"),
        (2, "abstain", _ABSTAIN | {"reason": "none"}, "head.abstain.reason"),
    ],
)
def test_fields_of_the_second_schema_version(
    manifest_dict: dict[str, Any], version: int, field: str, value: Any, place: str | None
) -> None:
    manifest_dict["schema_version"] = version
    manifest_dict["head"][field] = value
    assert places(manifest_dict) == (set() if place is None else {f"manifest.{place}"})
    manifest_dict["probes"] = []  # refused for itself; what is wrong with the head is told beside it
    assert places(manifest_dict) == {"manifest.probes"} | (set() if place is None else {f"manifest.{place}"})


def test_what_has_no_new_field_is_written_as_before(manifest_dict: dict[str, Any]) -> None:
    head = HeadRef.model_validate(manifest_dict["head"])
    assert schema_version_of(head) == 1
    assert not {"temperature", "abstain"} & json.loads(head.model_dump_json()).keys()
    for field, value in (("temperature", 2.0), ("abstain", _ABSTAIN)):
        newer = HeadRef.model_validate(manifest_dict["head"] | {field: value})
        assert schema_version_of(newer) == 2
        assert json.loads(newer.model_dump_json())[field] == value
