"""T5 and BART: what the packed decoder gives is what the library's padded model gives, masks and all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedConfig

from modeling import Backbone, Encoded, ServedModel, decoding
from tests.conformance import checks
from tests.tiny import CONFIGS, VARIANTS, pooled_states, random_backbone, random_model, random_texts

MODELS: dict[str, PreTrainedConfig] = {
    "t5": CONFIGS["t5"],
    "t5 v1.1": VARIANTS["t5 v1.1"],
    "bart": CONFIGS["bart"],
}
TEXTS = random_texts(7, seed=11)
LABELS = ("w1", "w2 w3", "w4 w5 w6")


def pair(name: str) -> tuple[Backbone, Any]:
    """A backbone, and an untouched model of the library with the same weights."""
    return random_backbone(MODELS[name]), random_model(MODELS[name])


def padded(model: Any, encoded: list[Encoded]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [B, L] of the library's own way."""
    longest, pad = max(map(len, encoded)), model.config.pad_token_id
    ids = torch.tensor([e.ids + [pad] * (longest - len(e)) for e in encoded])
    return ids, torch.tensor([[1] * len(e) + [0] * (longest - len(e)) for e in encoded])


def library_scores(model: Any, encoded: list[Encoded], ids: list[int], *, mask: bool = True) -> Tensor:
    """log p of one string after every text [B], by the library's forward pass with labels."""
    source, attention = padded(model, encoded)
    labels = torch.tensor(ids).repeat(len(encoded), 1)
    with torch.no_grad():
        kwargs = {"attention_mask": attention if mask else torch.ones_like(attention)}
        logits: Tensor = model(input_ids=source, labels=labels, **kwargs).logits
    return logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0].sum(-1)


def label_logits(backbone: Backbone, encoded: list[Encoded], labels: Sequence[str] = LABELS) -> Tensor:
    """As our decoder gives them [B, L]."""
    return decoding.label_logits(backbone, backbone.pack(encoded), backbone.label_ids(labels))


@pytest.mark.parametrize("name", MODELS)
def test_label_strings_score_as_in_the_library(name: str) -> None:
    backbone, model = pair(name)
    encoded = backbone.text.encode(TEXTS)
    got = label_logits(backbone, encoded).detach()
    for column, ids in enumerate(backbone.label_ids(LABELS)):
        torch.testing.assert_close(got[:, column], library_scores(model, encoded, ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_leaving_out_the_attention_mask_would_show(name: str) -> None:
    """The comparison above can fail: without its mask the library's padded model answers otherwise."""
    backbone, model = pair(name)
    encoded = backbone.text.encode(TEXTS)
    got = label_logits(backbone, encoded, LABELS[:1]).detach()[:, 0]
    without = library_scores(model, encoded, backbone.label_ids(LABELS[:1])[0], mask=False)
    assert (got - without).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_loss_is_the_librarys(name: str) -> None:
    backbone, model = pair(name)
    encoded = backbone.text.encode(TEXTS)
    targets = [LABELS[i % len(LABELS)] for i in range(len(encoded))]
    ids = backbone.label_ids(targets)
    source, attention = padded(model, encoded)
    longest = max(map(len, ids))
    labels = torch.tensor([i + [-100] * (longest - len(i)) for i in ids])
    want = model(input_ids=source, attention_mask=attention, labels=labels).loss
    loss = decoding.target_loss(backbone, backbone.pack(encoded), ids)
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_end_states_are_those_of_the_librarys_classifiers(name: str) -> None:
    """The decoder reads the text shifted by one; its state at the last end of sequence is the text's."""
    backbone, model = pair(name)
    encoded = backbone.text.encode(TEXTS)
    source, attention = padded(model, encoded)
    start = model.config.decoder_start_token_id
    shifted = torch.cat([torch.full_like(source[:, :1], start), source[:, :-1]], 1)
    body: Any = model.model if name == "bart" else model
    with torch.no_grad():
        output = body(
            input_ids=source,
            attention_mask=attention,
            decoder_input_ids=shifted,
            output_hidden_states=True,
        )
        states = output.last_hidden_state if name == "bart" else output.decoder_hidden_states[-1]
    want = torch.stack([row[len(e) - 1] for row, e in zip(states, encoded, strict=True)])
    got = pooled_states(backbone, backbone.pack(encoded), "eos").detach()
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_is_the_librarys(name: str) -> None:
    backbone, model = pair(name)
    encoded = backbone.text.encode(TEXTS)
    source, attention = padded(model, encoded)
    options = {"max_new_tokens": 9, "do_sample": False, "num_beams": 1}
    written = model.generate(input_ids=source, attention_mask=attention, **options)
    end = int(model.config.eos_token_id)
    want = [row[1:].tolist() for row in written]
    want = [row[: row.index(end)] if end in row else row for row in want]
    assert decoding.generate_ids(backbone, backbone.pack(encoded), 9) == want


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_many_tasks_write_as_if_alone(name: str) -> None:
    backbone = random_backbone(MODELS[name])
    encoded = backbone.text.encode(TEXTS)
    methods = ["hadamard", "compacter", "lora", "ia3", "prompt_tuning", "bitfit", None]
    spec = checks.SEQ2SEQ_SPECS[2]
    adapters = [checks.trained(backbone, m, spec, i, size=0.6) if m else None for i, m in enumerate(methods)]
    want = []
    for adapter, row in zip(adapters, encoded, strict=True):
        if adapter is None:
            want += decoding.generate_ids(backbone, backbone.pack([row]), 8)
            continue
        with adapter.attached(backbone):
            want += decoding.generate_ids(backbone, backbone.pack([row], adapter.virtual_tokens), 8)
    served = ServedModel(backbone)
    slots = [served.install(adapter.pack()) if adapter else 0 for adapter in adapters]
    assert served.generate_ids(encoded, slots, 8) == want
    assert len({tuple(row) for row in want}) > 1


def test_many_labels_are_scored_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = random_backbone(CONFIGS["t5"])
    encoded = backbone.text.encode(TEXTS)
    whole = label_logits(backbone, encoded)
    monkeypatch.setattr(decoding, "MAX_PASS_TOKENS", 5)
    torch.testing.assert_close(label_logits(backbone, encoded), whole, **checks.TOLERANCE)


def scored_alone(backbone: Backbone, encoded: list[Encoded], strings: list[list[int]]) -> Tensor:
    """log p [B, L] of each string in a pass of its own, without what several share."""
    found = []
    for ids in strings:
        batch = backbone.pack(encoded)
        with backbone.running(batch) as hidden:
            rows = [(row, ids) for row in range(batch.num_rows)]
            logits, wanted, target = decoding.teacher_forced(backbone, hidden, batch, rows)
        values = logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0]
        found.append(torch.stack([one.sum() for one in torch.split(values, target.lengths.tolist())]))
    return torch.stack(found, 1).index_select(0, backbone.pack(encoded).inverse)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(4))
def test_strings_that_share_tokens_score_as_if_alone(name: str, seed: int) -> None:
    """Sets of strings that begin alike, one the beginning of another, also in several passes."""
    rng, backbone = random.Random(seed), random_backbone(MODELS[name])
    encoded = backbone.text.encode(random_texts(5, seed))
    end = int(backbone.config.eos_token_id)
    strings = {tuple(rng.choices([20, 21, 22], k=rng.randint(0, 5))) for _ in range(rng.randint(1, 12))}
    strings |= {one[: rng.randint(0, len(one))] for one in strings}
    asked = [[*one, end] for one in rng.sample(sorted(strings), len(strings))]
    with torch.no_grad():
        want = scored_alone(backbone, encoded, asked)
        for most in (2048, 7):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(decoding, "MAX_PASS_TOKENS", most)
                got = decoding.label_logits(backbone, backbone.pack(encoded), asked)
            torch.testing.assert_close(got, want, **checks.TOLERANCE)


def test_gradients_of_shared_strings_are_those_of_each_alone() -> None:
    backbone = random_backbone(MODELS["t5"])
    encoded, ids = backbone.text.encode(TEXTS), [[20, 21, 2], [20, 22, 2], [20, 2]]
    weights = [p.requires_grad_() for p in backbone.model.decoder.parameters()]  # type: ignore[union-attr]
    found = []
    for logits in (
        decoding.label_logits(backbone, backbone.pack(encoded), ids),
        scored_alone(backbone, encoded, ids),
    ):
        spread = logits * torch.arange(logits.numel()).view_as(logits)
        found.append(torch.autograd.grad(spread.sum(), weights))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def cut(rows: list[list[int]], end: int) -> list[list[int]]:
    return [row[: row.index(end)] if end in row else row for row in rows]


@pytest.mark.parametrize("name", ["t5 v1.1", "bart"])  # tied output layers repeat one token
def test_rows_that_end_leave_the_others_as_they_are(name: str) -> None:
    """Rows write the end at different steps: nothing of theirs is behind it, all of the others'."""
    backbone = random_backbone(MODELS[name])
    with torch.no_grad():
        for parameter in backbone.model.get_submodule(backbone.seq2seq.encoder).parameters():
            parameter.mul_(2)  # so that texts matter more, and rows differ
    encoded = backbone.text.encode(random_texts(16, 5))
    backbone.config.eos_token_id = -1
    whole = decoding.generate_ids(backbone, backbone.pack(encoded), 24)
    end = max(
        {token for row in whole for token in row}, key=lambda one: len({len(row) for row in cut(whole, one)})
    )
    backbone.config.eos_token_id = end
    want = cut(whole, end)
    assert len({len(row) for row in want}) >= 3
    assert decoding.generate_ids(backbone, backbone.pack(encoded), 24) == want
