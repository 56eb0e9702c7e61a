"""The served model under random installs and removals: what is resident answers as each adapter does alone.

The reference is the training form, one row at a time, on a backbone of its own. Slots, rows of banks, spans
of heads and the weights of exclusive adapters are all reused here, where a forgotten clear shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from transformers import PreTrainedConfig

from modeling import (
    METHODS,
    Adapter,
    Backbone,
    Encoded,
    EncodedRow,
    HeadSpec,
    ServedModel,
    decoding,
    readout_of,
)
from tests.conformance.checks import TOLERANCE, encoded_for, trained
from tests.conformance.checks import logits_alone as by_head
from tests.conformance.options import tiny_options
from tests.tiny import CONFIGS, VARIANTS, hidden_of, pooled_states, random_backbone, random_texts

MODELS: dict[str, PreTrainedConfig] = {
    "bert": CONFIGS["bert"],
    "t5": CONFIGS["t5"],
    "t5 v1.1": VARIANTS["t5 v1.1"],
}
TEXTS = random_texts(6, seed=21, max_words=9)
MAX_NEW_TOKENS = 4
# Beside each method with its usual options: other shapes, other parts and another activation of some.
FORMS: list[tuple[str, dict[str, Any]]] = [
    *((method, tiny_options(method)) for method in METHODS),
    ("houlsby", {"bottleneck": 4, "activation": "relu", "train_norms": False}),
    ("compacter", {"bottleneck": 8, "division": 2, "layers": "1"}),
    ("lora", {"rank": 2, "layers": "0"}),
    ("hadamard", {"norm": "both"}),
    ("prompt_tuning", {"tokens": 2}),
]
OUTPUT_LAYER: list[tuple[str, dict[str, Any]]] = [
    ("pfeiffer", {"bottleneck": 4, "train_output_layer": True}),
    ("bitfit", {"train_output_layer": True}),
]


def _labels(count: int) -> tuple[str, ...]:
    return tuple(f"c{number}" for number in range(count))


SPECS = [
    HeadSpec("single_label", _labels(2)),
    HeadSpec("single_label", _labels(70), pooling="first"),
    HeadSpec("multi_label", _labels(5)),
    HeadSpec("multi_label", _labels(9), pooling="first"),
    HeadSpec("regression", ("value",)),
    HeadSpec("multiple_choice", ("choice",)),
    HeadSpec("single_label", _labels(4), pooling="apart"),
]
SEQ2SEQ_SPECS = [
    HeadSpec("single_label", _labels(3), pooling="eos"),
    HeadSpec("regression", ("value",), pooling="eos"),
    HeadSpec("regression", ("value",), pooling="apart"),
    HeadSpec("text_to_text", ("w1", "w2 w3", "w4 w5 w6"), pooling="none"),
    HeadSpec("text_to_text", ("w7", "w8"), pooling="none"),
    HeadSpec("text_to_text", (), pooling="none", max_new_tokens=MAX_NEW_TOKENS),
]


@dataclass(frozen=True)
class Kind:
    """An adapter by what it is drawn from; equal kinds are the same adapter."""

    form: int
    spec: HeadSpec
    seed: int


def forms_of(model: str) -> list[tuple[str, dict[str, Any]]]:
    return FORMS if model == "bert" else FORMS + OUTPUT_LAYER


@cache
def reference(model: str) -> Backbone:
    """Where adapters are made and run alone; nothing stays attached to it."""
    return random_backbone(MODELS[model])


@cache
def adapter_of(model: str, kind: Kind) -> Adapter:
    method, options = forms_of(model)[kind.form]
    return trained(reference(model), method, kind.spec, 100 * kind.form + kind.seed, options, size=0.5)


@cache
def rows_of(model: str) -> list[Encoded]:
    """The texts; an encoder-decoder's know a target, for tasks without labels."""
    backbone = reference(model)
    encoded = backbone.text.encode(TEXTS)
    if not backbone.is_encoder_decoder:
        return encoded
    targets = backbone.label_ids(["w1 w2", "w3", "w4 w5 w6", "w9 w8", "w7", "w2"])
    return [replace(one, target=tuple(ids)) for one, ids in zip(encoded, targets, strict=True)]


def row_of(model: str, kind: Kind | None, text: int) -> EncodedRow:
    """A text as an adapter of this kind reads it: of a pair each text apart, or as one sequence."""
    if kind is None or not readout_of(kind.spec).apart:
        return rows_of(model)[text]
    return encoded_for(reference(model), kind.spec, TEXTS[text])


@cache
def logits_alone(model: str, kind: Kind, text: int) -> torch.Tensor:
    """[L] of one row in training form."""
    backbone, adapter, row = reference(model), adapter_of(model, kind), rows_of(model)[text]
    if readout_of(kind.spec).apart:
        return by_head(backbone, adapter, row_of(model, kind, text))
    spec, batch = adapter.spec, backbone.pack([row], adapter.virtual_tokens)
    with torch.no_grad(), adapter.attached(backbone):
        if readout_of(spec).writes:
            return decoding.target_scores(backbone, batch, [list(row.target)])
        if adapter.head is None:
            return decoding.label_logits(backbone, batch, backbone.label_ids(spec.labels))[0]
        logits: torch.Tensor = adapter.head(pooled_states(backbone, batch, spec.pooling))[0]
        return logits


@cache
def hidden_alone(model: str, kind: Kind | None, text: int) -> torch.Tensor:
    """Encoder states [T, H] of one row, virtual tokens left out; without an adapter for None."""
    backbone, row = reference(model), [rows_of(model)[text]]
    with torch.no_grad():
        if kind is None:
            return hidden_of(backbone, row)
        adapter = adapter_of(model, kind)
        batch = backbone.pack(row, adapter.virtual_tokens)
        with adapter.attached(backbone), backbone.running(batch) as hidden:
            return hidden[adapter.virtual_tokens :]


@cache
def written_alone(model: str, kind: Kind | None, text: int) -> list[int]:
    backbone, row = reference(model), [rows_of(model)[text]]
    if kind is None:
        return decoding.generate_ids(backbone, backbone.pack(row), MAX_NEW_TOKENS)[0]
    adapter = adapter_of(model, kind)
    batch = backbone.pack(row, adapter.virtual_tokens)
    with adapter.attached(backbone):
        return decoding.generate_ids(backbone, batch, MAX_NEW_TOKENS)[0]


def kinds(model: str) -> st.SearchStrategy[Kind]:
    """Any method with any head."""
    specs = SEQ2SEQ_SPECS if reference(model).is_encoder_decoder else SPECS
    forms = st.sampled_from(range(len(forms_of(model))))
    drawn = st.builds(Kind, forms, st.sampled_from(specs), st.integers(0, 1))
    return drawn.filter(lambda kind: _makes_sense(model, kind))


def _makes_sense(model: str, kind: Kind) -> bool:
    """T5 v1.1 has an output layer of its own, which only text to text reads."""
    return kind.form < len(FORMS) or kind.spec.kind == "text_to_text"


class ServedMachine(RuleBasedStateMachine):
    """Compares with each adapter alone. `live` says what holds each slot."""

    model: ClassVar[str] = "bert"
    near: ClassVar[dict[str, Any]] = TOLERANCE

    def __init__(self) -> None:
        super().__init__()
        self.served = ServedModel(random_backbone(MODELS[self.model]))
        self.live: dict[int, Kind] = {}
        self.most = 0

    # ---- coming and going

    @rule(data=st.data())
    def install(self, data: st.DataObject) -> None:
        self._install(data.draw(kinds(self.model)))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def install_the_same_again(self, data: st.DataObject) -> None:
        self._install(data.draw(st.sampled_from([*self.live.values()])))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self._remove(self._draw_slot(data))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        """Remove one that has just run, and let another take its slot and answer at once."""
        old, one = self._draw_slot(data), data.draw(kinds(self.model))
        self._check([0, 1], [old, old])
        self._remove(old)
        new = self._install(one)
        self._check([1, 2], [new, new])

    @precondition(lambda self: any(self._exclusive(slot) for slot in self.live))
    @rule(data=st.data())
    def replace_an_exclusive_one(self, data: st.DataObject) -> None:
        """By the same method with other weights: they come into the same slot."""
        old = data.draw(st.sampled_from([slot for slot in self.live if self._exclusive(slot)]))
        kind = self.live[old]
        self._check([0], [old])
        self._remove(old)
        new = self._install(replace(kind, seed=1 - kind.seed))
        self._check([0], [new])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def come_and_go(self, data: st.DataObject) -> None:
        """As often as a bank has spare rows: what was freed is used, and nothing grows."""
        slot = self._draw_slot(data)
        before = self.served.nbytes
        for _ in range(10):
            kind = self.live[slot]
            self._remove(slot)
            slot = self._install(kind)
        assert self.served.nbytes == before

    def _install(self, kind: Kind) -> int:
        adapter = adapter_of(self.model, kind)
        slot = self.served.install(adapter.pack())
        assert slot not in self.live
        self.live[slot] = kind
        self.most = max(self.most, len(self.live))
        assert 1 <= slot <= self.most, "a slot was not reused"
        placement = self.served.placement(slot)
        assert (placement.slot, placement.virtual_tokens) == (slot, adapter.virtual_tokens)
        assert placement.exclusive == (adapter.weights is not None)
        has_body = bool(adapter.body) or adapter.weights is not None
        assert placement.body_slot == (slot if has_body else 0)
        labels = kind.spec.labels if kind.spec.kind == "text_to_text" else ()
        strings = self.served.backbone.label_ids(labels) if labels else []
        reads_again = kind.spec.pooling in ("eos", "apart") and self.served.backbone.is_encoder_decoder
        begun = {tuple(ids[:i]) for ids in strings for i in range(len(ids))}  # the decoder reads these
        read = len(begun), int(reads_again)
        assert (placement.decoder_tokens, placement.decoder_per_token) == read
        return slot

    def _remove(self, slot: int) -> None:
        self.served.remove(slot)
        del self.live[slot]
        with pytest.raises(KeyError):
            self.served.placement(slot)
        with pytest.raises(KeyError):
            self.served.remove(slot)

    # ---- answering

    @rule(data=st.data())
    def run_a_mixed_batch(self, data: st.DataObject) -> None:
        """Any rows under any slots and under none; heads without a body read rows several times."""
        mixing = [slot for slot in self.live if not self._exclusive(slot)]
        chosen = data.draw(
            st.lists(st.tuples(self._texts, st.sampled_from([0, *mixing])), min_size=1, max_size=8)
        )
        self._check([text for text, _ in chosen], [slot for _, slot in chosen], data)

    @precondition(lambda self: any(self._exclusive(slot) for slot in self.live))
    @rule(data=st.data())
    def run_an_exclusive_batch(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from([slot for slot in self.live if self._exclusive(slot)]))
        texts = data.draw(st.lists(self._texts, min_size=1, max_size=4))
        self._check(texts, [slot] * len(texts), data)
        rows = [rows_of(self.model)[0]] * 2
        with pytest.raises(ValueError, match="cannot share a batch"):
            self.served.run(rows, [slot, 0], [])

    @rule(data=st.data())
    def states(self, data: st.DataObject) -> None:
        """The encoder's own states, which a row without an adapter has as if alone in the model."""
        mixing = [slot for slot in self.live if not self._exclusive(slot)]
        chosen = data.draw(
            st.lists(st.tuples(self._texts, st.sampled_from([0, *mixing])), min_size=1, max_size=6)
        )
        rows = [rows_of(self.model)[text] for text, _ in chosen]
        found = self.served.hidden(rows, [self._body(slot) for _, slot in chosen])
        for (text, slot), states in zip(chosen, found, strict=True):
            wanted = hidden_alone(self.model, self.live.get(slot), text)
            torch.testing.assert_close(states, wanted, **self.near)

    def _check(self, texts: list[int], slots: list[int], data: st.DataObject | None = None) -> None:
        """Rows under slots in one batch, each read by its own head and, without a body, by others too."""
        reads = [(row, slot) for row, slot in enumerate(slots) if slot]
        if data is not None:
            heads = [slot for slot in self.live if not self.served.placement(slot).body_slot]
            bare = [row for row, slot in enumerate(slots) if not self._body(slot)]
            fitting = [
                (row, head) for row in bare for head in heads if self._apart(slots[row]) == self._apart(head)
            ]
            if fitting:
                reads += data.draw(st.lists(st.sampled_from(fitting), max_size=4))
            reads = data.draw(st.permutations(reads))
        rows = [
            row_of(self.model, self.live.get(slot), text) for text, slot in zip(texts, slots, strict=True)
        ]
        found = self.served.run(rows, [self._body(slot) for slot in slots], reads)
        assert len(found) == len(reads)
        for (row, slot), logits in zip(reads, found, strict=True):
            wanted = logits_alone(self.model, self.live[slot], texts[row])
            torch.testing.assert_close(torch.from_numpy(np.asarray(logits)), wanted, **self.near)

    @property
    def _texts(self) -> st.SearchStrategy[int]:
        return st.integers(0, len(TEXTS) - 1)

    def _draw_slot(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.live)))

    def _body(self, slot: int) -> int:
        return self.served.placement(slot).body_slot if slot else 0

    def _apart(self, slot: int) -> bool:
        return slot in self.live and readout_of(self.live[slot].spec).apart

    def _exclusive(self, slot: int) -> bool:
        return adapter_of(self.model, self.live[slot]).weights is not None

    @invariant()
    def counts_agree(self) -> None:
        assert self.served.num_resident == len(self.live)

    def teardown(self) -> None:
        """Each that is left still answers; then all go, and the backbone is as it was."""
        for slot in [*self.live]:
            self._check([3], [slot])
            self._remove(slot)
        (states,) = self.served.hidden([rows_of(self.model)[3]], [0])
        torch.testing.assert_close(states, hidden_alone(self.model, None, 3), **self.near)


class Seq2SeqMachine(ServedMachine):
    """The same on an encoder-decoder, which also writes.

    T5 does not scale its scores down: with LoRA on queries its softmax is so sharp that float32 itself is off
    by 3e-5 from float64, on either path.
    """

    model = "t5"
    near: ClassVar[dict[str, Any]] = {"rtol": 1e-4, "atol": 1e-4}

    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        mixing = [slot for slot in self.live if self._writes(slot) and not self._exclusive(slot)]
        alone = [slot for slot in self.live if self._writes(slot) and self._exclusive(slot)]
        texts = data.draw(st.lists(self._texts, min_size=1, max_size=5))
        if alone and (not mixing or len(texts) < 3):
            slots = [data.draw(st.sampled_from(alone))] * len(texts)
        else:
            slots = [data.draw(st.sampled_from([0, *mixing])) for _ in texts]
        rows = [rows_of(self.model)[text] for text in texts]
        found = self.served.generate_ids(rows, slots, MAX_NEW_TOKENS)
        kinds = [self.live.get(slot) for slot in slots]
        assert found == [written_alone(self.model, k, t) for k, t in zip(kinds, texts, strict=True)]

    def _writes(self, slot: int) -> bool:
        return self.live[slot].spec.kind == "text_to_text" and self.served.placement(slot).body_slot != 0


class GatedMachine(Seq2SeqMachine):
    """T5 v1.1: a gated feed-forward, and an output layer that is not the embedding."""

    model = "t5 v1.1"


def _settings(share: float) -> settings:
    """`share` of the examples of the profile in use; `thorough` has ten times as many as usual."""
    return settings(
        max_examples=max(1, round(share * settings().max_examples)),
        stateful_step_count=16,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


TestEncoder = ServedMachine.TestCase
TestEncoder.settings = _settings(0.5)
TestSeq2Seq = Seq2SeqMachine.TestCase
TestSeq2Seq.settings = _settings(0.25)
TestGated = GatedMachine.TestCase
TestGated.settings = _settings(0.15)
