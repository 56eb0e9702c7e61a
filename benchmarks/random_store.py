"""A store of random Hadamard tasks with honest probes, for benchmarks of a running service."""

from pathlib import Path

import torch

from adapters_store import (
    AdapterStore,
    BackboneRef,
    InputRef,
    Manifest,
    MethodRef,
    Probe,
    Provenance,
    write_adapter,
)
from modeling import METHODS, Adapter, Backbone, HeadSpec, ServedModel, load_backbone
from proof.candidate import head_of

SPEC = HeadSpec("single_label", ("no", "yes"))
TEXTS = [f"a text of some words, and its number is {number}" for number in range(8)]


def fill(root: Path, count: int) -> None:
    """A store with the tasks `task-0`, `task-1`, … of minilm."""
    backbone, store = load_backbone("minilm"), AdapterStore(root)
    model = ServedModel(backbone)
    for number in range(count):
        store.publish(f"task-{number}", _file(backbone, model, number))


def _file(backbone: Backbone, model: ServedModel, seed: int) -> bytes:
    adapter = Adapter.create(backbone, METHODS["hadamard"].from_config({}), SPEC, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.body_parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    slot = model.install(adapter.pack())
    encoded = backbone.text.encode(TEXTS, 128)
    logits = model.run(encoded, [slot] * len(encoded), [(row, slot) for row in range(len(encoded))])
    model.remove(slot)
    manifest = Manifest(
        task=f"task-{seed}",
        created="2026-01-02T03:04:05Z",
        backbone=BackboneRef(
            family=backbone.family.name,
            name=backbone.name,
            config_digest=backbone.config_digest,
            weights_digest=backbone.weights_digest,
        ),
        method=MethodRef(name="hadamard", config=adapter.method.config()),
        head=head_of(SPEC),
        input=InputRef(fields=["text"], max_tokens=128),
        provenance=Provenance(code_version="benchmark", config={}, seed=seed),
        probes=[Probe(text=text, logits=own.tolist()) for text, own in zip(TEXTS, logits, strict=True)],
    )
    return write_adapter(manifest, adapter.to_tensors())
