"""Tasks of any method, form and tiny backbone: their files with honest probes, and what each answers alone.

For integration tests only. An item is a JSON input: a text, {"text", "text_pair"} or {"text", "choices"}.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from adapters_store import (
    BackboneRef,
    InputRef,
    Manifest,
    MethodRef,
    Probe,
    Provenance,
    write_adapter,
)
from adapters_store.manifest import schema_version_of
from modeling import Adapter, Backbone, HeadSpec, TextItem, decoding, readout_of
from proof.candidate import head_of
from tests.conformance import checks
from tests.integration.world import TEXTS, Live
from tests.tiny import tiny_model, tokenizer

Item = str | Mapping[str, Any]


@dataclass(frozen=True)
class Served:
    """A task as a test knows it."""

    name: str
    adapter: Adapter
    data: bytes

    @property
    def spec(self) -> HeadSpec:
        return self.adapter.spec


def save_model(folder: Path, model_type: str, seed: int = 0) -> Path:
    """The tiny model of a family as a Hugging Face directory, with its tokenizer."""
    tiny_model(model_type, seed).save_pretrained(folder)  # type: ignore[operator]
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(model_type), **names).save_pretrained(folder)
    return folder


def item_of(spec: HeadSpec, number: int) -> Item:
    """The `number`-th input of a task of this form."""
    text = TEXTS[number % len(TEXTS)]
    if spec.kind != "multiple_choice":
        pairs = readout_of(spec).apart
        return {"text": text, "text_pair": TEXTS[(3 * number + 5) % len(TEXTS)]} if pairs else text
    choices = [TEXTS[(number + 7 * k + 1) % len(TEXTS)] for k in range(2 + number % 3)]
    return {"text": text, "choices": list(dict.fromkeys(choices))}


def rows_of(item: Item) -> list[TextItem]:
    """The rows that an item becomes, as modeling takes them."""
    if isinstance(item, str):
        return [item]
    if "choices" in item:
        return [(item["text"], choice) for choice in item["choices"]]
    return [(item["text"], item["text_pair"])]


def logits_alone(
    backbone: Backbone, adapter: Adapter, item: Item, max_tokens: int | None = None
) -> list[float]:
    """The reference: each row alone, training form; [L], [K] of K choices, or [W L] of W words."""
    rows = readout_of(adapter.spec).encode(backbone.text, rows_of(item), max_tokens)
    found = [checks.logits_alone(backbone, adapter, row) for row in rows]
    return torch.cat(found).tolist()


def written_alone(backbone: Backbone, adapter: Adapter, text: str, max_new_tokens: int) -> str:
    """The reference of generation: one row, training form."""
    batch = backbone.pack(backbone.text.encode([text]), adapter.virtual_tokens)
    with adapter.attached(backbone), torch.no_grad():
        return decoding.generate(backbone, batch, max_new_tokens)[0]


def served(
    backbone: Backbone,
    name: str,
    method: str,
    spec: HeadSpec,
    *,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    max_tokens: int = 40,
) -> Served:
    """A task whose every parameter was moved from its start."""
    adapter, head = checks.trained(backbone, method, spec, seed, config), head_of(spec)
    manifest = Manifest(
        task=name,
        created="2026-01-02T03:04:05Z",
        backbone=BackboneRef(
            family=backbone.family.name,
            name=backbone.name,
            config_digest=backbone.config_digest,
            weights_digest=backbone.weights_digest,
        ),
        method=MethodRef(name=method, config=adapter.method.config()),
        schema_version=schema_version_of(head),
        head=head,
        input=InputRef(
            fields=["text", "text_pair"] if readout_of(spec).apart else ["text"], max_tokens=max_tokens
        ),
        provenance=Provenance(code_version="test", config={}, seed=seed),
        probes=[_probe(backbone, adapter, item_of(spec, number), max_tokens) for number in range(1, 9)],
    )
    return Served(name, adapter, write_adapter(manifest, adapter.to_tensors()))


def _probe(backbone: Backbone, adapter: Adapter, item: Item, max_tokens: int) -> Probe:
    fields: dict[str, Any] = {"text": item} if isinstance(item, str) else dict(item)
    if adapter.spec in checks.WORD_SPECS:
        (row,) = backbone.text.encode(rows_of(item), max_tokens, words=True)
        fields["words"] = [[word.start, word.end] for word in row.words]
    return Probe(**fields, logits=logits_alone(backbone, adapter, item, max_tokens))


class Batches:
    """Which body slots shared each batch, of logits and of texts."""

    def __init__(self) -> None:
        self.read: list[list[int]] = []
        self.written: list[list[int]] = []


@contextmanager
def watched(live: Live, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batches]:
    """Everything the model is asked meanwhile."""
    model, batches = live.service.parts.model, Batches()
    run, generate = model.run, model.generate

    def run_seen(encoded: Any, body_slots: Sequence[int], reads: Any) -> Any:
        batches.read.append(list(body_slots))
        return run(encoded, body_slots, reads)

    def generate_seen(encoded: Any, body_slots: Sequence[int], max_new_tokens: int) -> Any:
        batches.written.append(list(body_slots))
        return generate(encoded, body_slots, max_new_tokens)

    with monkeypatch.context() as patch:
        patch.setattr(model, "run", run_seen)
        patch.setattr(model, "generate", generate_seen)
        yield batches


@contextmanager
def device_busy(live: Live) -> Iterator[None]:
    """Within it nothing is computed, so that what is asked waits together."""
    release, entered = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        entered.set()
        assert release.wait(30)

    done = live.service.parts.engine.call(hold)
    assert entered.wait(30)
    try:
        yield
    finally:
        release.set()
        done.result(30)


def slot_of(live: Live, name: str) -> int:
    """The body slot of a task's first version."""
    resident = live.service.parts.catalog.cache.get(name, 1)
    assert resident is not None, name
    return resident.card.placement.body_slot
