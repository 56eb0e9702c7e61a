"""What the code of today says to recorded files: the one place that names its functions.

`record.py` wrote down what the code of 7a39e30 said; `test_recorded.py` asks again. Whoever renames what is
called here adapts this file alone, and never the recordings. An item is a JSON input: a text, {"text",
"text_pair"} or {"text", "choices"}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapters_store import AdapterStore, Manifest, read_adapter
from adapters_store.manifest import rows_of
from modeling import Backbone, Encoded, HeadSpec, ServedModel, readout_of
from proof.candidate import candidate_of, judge
from proof.check import check_file
from service.app import build_app
from service.settings import Settings
from tests.integration.world import Live
from tests.tiny import answer

Item = str | Mapping[str, Any]
TARGET = "w1 w2"
"""The string that is scored after every text of a task without labels."""
NEW_TOKENS = 6


@dataclass(frozen=True)
class Installed:
    """A file's adapter on a model."""

    slot: int
    spec: HeadSpec
    manifest: Manifest


def install(model: ServedModel, data: bytes) -> Installed:
    """A file's bytes -> its slot and spec."""
    found = candidate_of(read_adapter(data, judge=judge), model.backbone)
    return Installed(model.install(found.packed), found.packed.spec, found.manifest)


def check(data: bytes, backbone: Backbone) -> dict[str, Any]:
    """What the check before an upload finds; it raises for a file that may not be served."""
    report = check_file(data, backbone)
    return {
        "task": report.task,
        "method": report.method,
        "kind": report.kind,
        "labels": list(report.labels),
        "digest": report.digest,
        "size_bytes": report.size_bytes,
        "probes": report.probes.count,
    }


def decided(spec: HeadSpec, logits: Sequence[float]) -> dict[str, Any]:
    """The answer that logits mean: label, score, scores."""
    found = answer(spec, logits)._asdict()
    return {key: found[key] for key in ("label", "score", "scores")}


def logits_of(
    model: ServedModel, asked: Sequence[tuple[Installed, Sequence[Item]]]
) -> list[list[list[float]]]:
    """Logits of each item of each task, [L] or [K], all in one batch."""
    groups = [(task, _rows(model.backbone, task, item)) for task, items in asked for item in items]
    encoded = [row for _, rows in groups for row in rows]
    slots = [task.slot for task, rows in groups for _ in rows]
    found = iter(
        model.run(encoded, [model.placement(slot).body_slot for slot in slots], list(enumerate(slots)))
    )
    flat = iter([[float(v) for _ in rows for v in next(found)] for _, rows in groups])
    return [[next(flat) for _ in items] for _, items in asked]


def written(model: ServedModel, task: Installed, items: Sequence[Item]) -> list[str]:
    """What the decoder writes after each item."""
    encoded = [row for item in items for row in _rows(model.backbone, task, item)]
    return model.generate(encoded, [model.placement(task.slot).body_slot] * len(encoded), NEW_TOKENS)


def is_exclusive(model: ServedModel, task: Installed) -> bool:
    """Whether its rows run in a batch of their own."""
    return model.placement(task.slot).exclusive


def _rows(backbone: Backbone, task: Installed, item: Item) -> list[Encoded]:
    parts = {"text": item} if isinstance(item, str) else item
    texts = rows_of(parts["text"], parts.get("text_pair"), parts.get("choices"))
    rows = backbone.text.encode(texts, task.manifest.input.max_tokens)
    if not readout_of(task.spec).writes:
        return rows
    (target,) = backbone.label_ids([TARGET])
    return [replace(row, target=tuple(target)) for row in rows]


def served(
    backbone: Path, store: Path, files: Mapping[str, bytes], items: Mapping[str, Sequence[Item]]
) -> dict[str, Any]:
    """Upload files over HTTP and ask for each as a task of its name; by task, the whole answer."""
    with Live(Settings(backbone=str(backbone), store=store, device="cpu")) as live:
        for name, data in files.items():
            response = live.push(name, data)
            assert response.status_code == 201, response.text
        found = {}
        for name, asked in items.items():
            head = read_adapter(files[name]).manifest.head
            options = {} if head.max_new_tokens is not None else {"raw": True}
            found[name] = live.predict(name, asked, truncate=True, **options)
        return found


def contents(folder: Path) -> dict[str, Any]:
    """Tasks of a store with aliases and versions, and what is damaged. Opening writes into the folder."""
    store = AdapterStore(folder)
    tasks = {state.task: asdict(state) for state in store.tasks()}
    for name, state in tasks.items():
        for version in state["versions"]:
            assert len(store.read(name, version["version"])) == version["size_bytes"]
        state["versions"] = list(state["versions"])
    return {"tasks": tasks, "damaged": store.damaged()}


def openapi() -> dict[str, Any]:
    """The document of the HTTP interface."""
    return build_app(Settings()).openapi()
