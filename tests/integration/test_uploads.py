"""Uploads: a sound file becomes visible after its probes were replayed; anything else changes nothing."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_store import write_adapter
from modeling import Backbone, HeadSpec
from proof.check import check_file
from service.settings import Settings
from tests.integration.world import (
    SPECS,
    TEXTS,
    Live,
    adapter_of,
    file_of,
    manifest_of,
    tiny,
)
from tests.tiny import CONFIGS, random_backbone

Made = Callable[[Backbone], bytes]


def _with_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Made:
    """A file whose tensors were changed after its probes were recorded."""

    def make(backbone: Backbone) -> bytes:
        adapter = adapter_of(backbone, "mood")
        tensors = adapter.to_tensors()
        change(tensors)
        return write_adapter(manifest_of(backbone, "mood", adapter), tensors)

    return make


def _with_manifest(**update: Any) -> Made:
    def make(backbone: Backbone) -> bytes:
        adapter = adapter_of(backbone, "mood")
        manifest = manifest_of(backbone, "mood", adapter)
        changed = {
            key: getattr(manifest, key).model_copy(update=value) if isinstance(value, dict) else value
            for key, value in update.items()
        }
        return write_adapter(manifest.model_copy(update=changed), adapter.to_tensors())

    return make


def _misspelt(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if name.endswith("/scale"))
    tensors[name.replace("scale", "scales")] = tensors.pop(name)


def _transposed(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head/weight"] = tensors["head/weight"].clone()
    name = next(name for name in tensors if name.endswith("/scale"))
    tensors[name] = tensors[name].reshape(1, -1)


def _swapped_head_rows(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head/weight"] = tensors["head/weight"].flip(0).contiguous()


def _huge(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head/weight"] = torch.full_like(tensors["head/weight"], 3e38)


def _nan(backbone: Backbone) -> bytes:
    data = bytearray(file_of(backbone, "mood"))
    data[-4:] = struct.pack("<f", float("nan"))
    return bytes(data)


def _changed_probe(backbone: Backbone) -> bytes:
    adapter = adapter_of(backbone, "mood")
    manifest = manifest_of(backbone, "mood", adapter)
    probes = [*manifest.probes]
    logits = [probes[5].logits[0] + 0.01, probes[5].logits[1]]
    probes[5] = probes[5].model_copy(update={"logits": logits})
    return write_adapter(manifest.model_copy(update={"probes": probes}), adapter.to_tensors())


def _labels_do_not_match(backbone: Backbone) -> bytes:
    data = file_of(backbone, "mood")
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    manifest = json.loads(header["__metadata__"]["trunkline"])
    manifest["head"]["labels"].append("third")
    for probe in manifest["probes"]:
        probe["logits"].append(0.0)
    header["__metadata__"]["trunkline"] = json.dumps(manifest)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _pickle(backbone: Backbone) -> bytes:
    return pickle.dumps({"head/weight": [1.0]})


def _torch_save(backbone: Backbone) -> bytes:
    buffer = io.BytesIO()
    torch.save(adapter_of(backbone, "mood").to_tensors(), buffer)
    return buffer.getvalue()


REFUSED: dict[str, tuple[Made, str]] = {
    "empty": (lambda backbone: b"", "file"),
    "truncated": (lambda backbone: file_of(backbone, "mood")[:-100], ""),
    "half a header": (lambda backbone: file_of(backbone, "mood")[:200], ""),
    "a pickle": (_pickle, "pickle"),
    "torch.save": (_torch_save, "zip"),
    "a misspelt tensor": (_with_tensors(_misspelt), "scales"),
    "a reshaped tensor": (_with_tensors(_transposed), "shape [1, 32]"),
    "swapped head rows": (_with_tensors(_swapped_head_rows), "probes.0"),
    "overflowing logits": (_with_tensors(_huge), "not finite"),
    "NaN weights": (_nan, "not finite"),
    "a changed probe": (_changed_probe, "probes.5"),
    "labels without rows": (_labels_do_not_match, "head/weight"),
    "another backbone of equal width": (lambda _: file_of(tiny(seed=1), "mood"), "weights_digest"),
    "another task's file": (lambda backbone: file_of(backbone, "topic"), "manifest.task"),
    "an unknown method": (
        _with_manifest(method={"name": "lorax", "config": {}}),
        "manifest.method.name",
    ),
    "an unknown option of the method": (
        _with_manifest(method={"config": {"placement": "nowhere"}}),
        "manifest.method.config",
    ),
    "more tokens than the backbone has": (
        _with_manifest(input={"max_tokens": 4096}),
        "manifest.input.max_tokens",
    ),
    "a pooling that the backbone lacks": (_with_manifest(head={"pooling": "pooler"}), ""),
}


@pytest.fixture(scope="module")
def observed(backbone: Backbone, backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with one good version of `mood`; every refused upload must leave it as it was."""
    store = tmp_path_factory.mktemp("observed") / "store"
    with Live(Settings(backbone=str(backbone_folder), store=store, device="cpu")) as server:
        assert server.push("mood", file_of(backbone, "mood", seed=3)).status_code == 201
        yield server


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_refused_and_nothing_changes(observed: Live, backbone: Backbone, case: str) -> None:
    make, says = REFUSED[case]
    if case == "a pooling that the backbone lacks" and "pooler" in backbone.poolings:
        says = "probes.0"  # then the recorded logits are not those of this pooling
    data = make(backbone)
    before = observed.http.get("/v1/tasks").json(), observed.http.get("/v1/info").json()["adapters"]
    files = sorted(path.name for path in observed.service.settings.store.rglob("*") if path.is_file())
    answer = observed.predict("mood", TEXTS[:3], raw=True)
    response = observed.push("mood", data)
    assert response.status_code == 422, response.text
    body = response.json()
    assert body["code"] == "adapter_refused"
    assert body["errors"]
    assert all({"field", "got", "allowed", "remedy"} == set(found) for found in body["errors"])
    assert says in json.dumps(body)
    after = observed.http.get("/v1/tasks").json(), observed.http.get("/v1/info").json()["adapters"]
    assert after[0] == before[0]
    assert after[1]["resident"] == before[1]["resident"]
    assert sorted(p.name for p in observed.service.settings.store.rglob("*") if p.is_file()) == files
    assert observed.predict("mood", TEXTS[:3], raw=True) == answer


def test_all_failures_are_listed_at_once(observed: Live) -> None:
    other = tiny(seed=1)
    adapter = adapter_of(other, "topic")
    tensors = adapter.to_tensors()
    _misspelt_bias = next(name for name in tensors if name.startswith("encoder."))
    tensors["encoder.0.attn_q/nothing"] = tensors.pop(_misspelt_bias)
    data = write_adapter(manifest_of(other, "topic", adapter), tensors)
    fields = [found["field"] for found in observed.push("mood", data).json()["errors"]]
    assert {"manifest.task", "manifest.backbone.weights_digest", _misspelt_bias} <= set(fields)
    assert "encoder.0.attn_q/nothing" in fields


def test_of_another_architecture_the_tensors_are_not_listed(observed: Live) -> None:
    shape = CONFIGS["bert"]
    other = random_backbone(type(shape)(**shape.to_dict() | {"num_hidden_layers": 1}))
    adapter = adapter_of(other, "mood")
    data = write_adapter(manifest_of(other, "mood", adapter), adapter.to_tensors())
    fields = [found["field"] for found in observed.push("mood", data).json()["errors"]]
    assert fields == ["manifest.backbone.config_digest", "manifest.backbone.weights_digest"]


def test_a_sound_file_is_visible_at_once_and_says_what_it_is(live: Live, backbone: Backbone) -> None:
    data = file_of(backbone, "topic")
    response = live.push("topic", data)
    assert response.status_code == 201
    body = response.json()
    assert {key: body[key] for key in ("task", "version", "size_bytes", "method", "kind")} == {
        "task": "topic",
        "version": 1,
        "size_bytes": len(data),
        "method": "bitfit",
        "kind": "single_label",
    }
    assert body["labels"] == list(SPECS["topic"].labels)
    assert body["aliases"] == {"production": 1}
    assert body["probes"]["count"] == 8
    assert body["probes"]["max_difference"] < 1e-4
    assert response.headers["location"] == "/v1/tasks/topic/versions/1"
    assert live.predict("topic", "w1")["digest"] == body["digest"]


def test_the_same_bytes_again_are_the_same_version(live: Live, backbone: Backbone) -> None:
    data, other = file_of(backbone, "mood"), file_of(backbone, "mood", seed=1)
    first = live.push("mood", data)
    assert live.push("mood", other).json()["version"] == 2
    again = live.push("mood", data, alias="")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["version"] == 1
    assert again.json()["aliases"] == {"production": 2, "previous": 1}
    assert live.http.get("/v1/info").json()["adapters"]["resident"] == 2
    assert live.push("mood", data).json()["aliases"] == {"production": 1, "previous": 2}


def test_an_upload_may_move_another_alias_or_none(live: Live, backbone: Backbone) -> None:
    assert live.push("mood", file_of(backbone, "mood"), alias="").json()["aliases"] == {}
    assert live.ask("mood", "w1").status_code == 404
    assert live.predict("mood@1", "w1")["version"] == 1
    assert live.push("mood", file_of(backbone, "mood", 1), alias="canary").json()["aliases"] == {"canary": 2}
    assert live.predict("mood@canary", "w1")["version"] == 2


@pytest.mark.parametrize("name", ["..%2F..%2Fetc", "%2E%2E", "a%2Fb", "A", "a b", ".hidden", "a" * 65, "ä"])
def test_paths_and_other_names_are_no_task_names(observed: Live, backbone: Backbone, name: str) -> None:
    response = observed.push(name, file_of(backbone, "mood"))
    assert response.status_code in (404, 422)
    assert "a-z, 0-9" in response.json()["detail"]


def test_bodies_that_are_not_files(observed: Live, backbone: Backbone) -> None:
    path, data = "/v1/tasks/mood/versions", file_of(backbone, "mood", seed=3)
    json_body = observed.http.post(path, content=b"{}", headers={"Content-Type": "application/json"})
    assert json_body.status_code == 415
    assert "application/octet-stream" in json_body.json()["detail"]
    for kind in ("application/x-safetensors", None):
        headers = {"Content-Type": kind} if kind else {}
        assert observed.http.post(path, content=data, headers=headers).status_code == 200
    assert observed.push("mood", data, alias="Not An Alias").status_code == 422


def test_limits_on_files(backbone_folder: Path, backbone: Backbone, tmp_path: Path) -> None:
    settings = Settings(
        backbone=str(backbone_folder),
        store=tmp_path / "store",
        device="cpu",
        max_adapter_bytes=20_000,
        max_adapters=1,
    )
    with Live(settings) as live:
        assert live.push("mood", b"x" * 20_001).status_code == 413
        assert live.push("mood", file_of(backbone, "mood")).status_code == 201
        full = live.push("topic", file_of(backbone, "topic"))
        assert full.status_code == 507
        assert full.json()["code"] == "registry_full"
        assert live.http.get("/v1/tasks/topic").status_code == 404


def test_the_same_set_after_a_restart(
    settings: Settings, files: dict[str, bytes], backbone: Backbone
) -> None:
    with Live(settings) as live:
        for task, data in files.items():
            live.push(task, data)
        live.push("mood", file_of(backbone, "mood", seed=1))
        live.push("topic", file_of(backbone, "topic", seed=1), alias="canary")
        live.http.delete("/v1/tasks/urgency")
        before = live.http.get("/v1/tasks").json()
        answers = live.predict(["mood", "mood@1", "topic@canary", "probe"], TEXTS[:5], raw=True)
    with Live(settings) as live:
        assert live.http.get("/v1/tasks").json() == before
        again = live.predict(["mood", "mood@1", "topic@canary", "probe"], TEXTS[:5], raw=True)
        for one, other in zip(answers["results"], again["results"], strict=True):
            assert (one["task"], one["version"], one["digest"]) == (
                other["task"],
                other["version"],
                other["digest"],
            )
            for p, q in zip(one["predictions"], other["predictions"], strict=True):
                assert p["logits"] == pytest.approx(q["logits"], rel=1e-5, abs=1e-5)


def test_a_damaged_version_is_skipped_and_told(settings: Settings, files: dict[str, bytes]) -> None:
    with Live(settings) as live:
        digest = live.push("mood", files["mood"]).json()["digest"]
        live.push("topic", files["topic"])
    path = next(p for p in settings.store.rglob("*") if digest.removeprefix("sha256:") in p.name)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    with Live(settings) as live:
        assert live.predict("topic", "w1")["version"] == 1
        (version,) = live.http.get("/v1/tasks/mood").json()["versions"]
        assert version["state"] == "failed"
        assert version["reason"]
        response = live.ask("mood", "w1")
        assert response.status_code == 503
        assert response.json()["code"] == "adapter_unavailable"
        results = live.predict(["mood", "topic"], "w1")["results"]
        assert results[0]["error"]["code"] == "adapter_unavailable"
        live.push("mood", files["mood"])  # the same bytes again mend it
        assert live.predict("mood", "w1")["version"] == 1


def test_a_store_of_another_backbone_is_skipped_and_told(
    settings: Settings, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.integration.world import save_backbone

    with Live(settings) as live:
        for task, data in files.items():
            live.push(task, data)
    other = save_backbone(tmp_path_factory.mktemp("other"), seed=1)
    with Live(settings.model_copy(update={"backbone": str(other)})) as live:
        listed = live.http.get("/v1/tasks").json()["tasks"]
        states = [version["state"] for task in listed for version in task["versions"]]
        assert states == ["failed"] * len(files)
        assert "weights_digest" in listed[0]["versions"][0]["reason"]


def test_checking_offline_agrees_with_uploading(backbone: Backbone, files: dict[str, bytes]) -> None:
    from proof.errors import Refused

    for task, data in files.items():
        report = check_file(data, backbone)
        assert (report.task, report.labels) == (task, SPECS[task].labels)
        assert report.probes.count == 8
        assert report.probes.max_difference < 1e-4
    for case, (make, says) in REFUSED.items():
        if case in ("another task's file", "a pooling that the backbone lacks"):
            continue
        with pytest.raises(Refused) as caught:
            check_file(make(backbone), backbone)
        assert says in str(caught.value) + str(caught.value.failures)


def test_a_head_of_many_labels_beside_one_of_two(live: Live, backbone: Backbone) -> None:
    """Two heads of one width, not swapped, and one of 150 labels in the same batch."""
    from modeling import METHODS, Adapter

    spec = HeadSpec("single_label", tuple(f"intent {i}" for i in range(150)))
    many = Adapter.create(backbone, METHODS["linear_probe"].from_config({}), spec, seed=4)
    manifest = manifest_of(backbone, "probe", many).model_copy(update={"task": "many"})
    assert live.push("many", write_adapter(manifest, many.to_tensors())).status_code == 201
    live.push("mood", file_of(backbone, "mood"))
    together = live.predict(["many", "mood"], TEXTS[:8], raw=True)["results"]
    for task, result in zip(("many", "mood"), together, strict=True):
        alone = live.predict(task, TEXTS[:8], raw=True)["predictions"]
        for one, other in zip(result["predictions"], alone, strict=True):
            assert one["logits"] == pytest.approx(other["logits"], rel=1e-5, abs=1e-5)
