"""Backbone: a frozen Hugging Face model, its taps, its tokenizer and its fingerprint.

It knows how a packed batch runs through encoder and decoder; not what for, and no adapter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from .attention import ATTENTION, STACK_MARK
from .digests import config_digest, earlier_config_digest, weights_digest
from .errors import BackboneError, UnknownNameError
from .families import FAMILIES, Family, Seq2Seq
from .greatest import Greatest, pays
from .layout import groups
from .packed import PackedBatch, pack
from .sites import Site, Tap
from .stack import begun_at, ended_below, noted
from .steps import Memory, StepBatch
from .tapped import Tapped, frozen_module
from .target import TargetBatch
from .text import Encoded, TextEncoder
from .weights import OwnParameters, replaced


class Decoder(Protocol):
    """What computes on a batch that runs what the library's decoder and output layer would."""

    def decode(self, hidden: Tensor, target: TargetBatch | StepBatch, memory: Memory | None) -> Tensor:
        """As `Backbone.decode`."""

    def logits(self, states: Tensor) -> Tensor:
        """As `Backbone.logits`."""

    def shifts(self) -> tuple[Tensor, Tensor] | None:
        """What is added to the logits of some states: which [r], what [r, V]; None if to none."""


class Backbone:
    """A frozen model with its family's taps.

    `hidden_size` H and `max_tokens` (special tokens included) come from the config; `device` is where the
    weights are; `config_digest` and `weights_digest` are `sha256:<hex>` of what the forward pass reads in the
    config and of the float32 weights, `earlier_config_digest` what older files hold instead of the first.
    `layers` are those at which a pass may begin, none where it always runs whole. While a batch runs,
    `source` and `target` are what encoder and decoder read: what acts at the taps looks there for rows.
    """

    def __init__(
        self, name: str, model: nn.Module, config: PreTrainedConfig, tokenizer: Any, dtype: torch.dtype
    ) -> None:
        self.name, self.config = name, config
        self.family = family_of(config)
        self.taps: tuple[Tap, ...] = tuple(self.family.taps(config))
        self.hidden_size = int(config.hidden_size)
        self.max_tokens = self.family.max_tokens(config)
        self.text = TextEncoder(tokenizer, self.max_tokens)
        self.config_digest, self.weights_digest = config_digest(config, self.family), weights_digest(model)
        self.earlier_config_digest = earlier_config_digest(config)
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self.family.prepare(model)
        if not self.family.padded:
            model.set_attn_implementation(ATTENTION)  # type: ignore[operator]  # of PreTrainedModel
            for tap in self.taps:
                if tap.site is Site.ATTN_Q:
                    setattr(model.get_submodule(tap.path.rpartition(".")[0]), STACK_MARK, tap.stack)
        self.layers = self.family.layers(model)
        self.model = model.to(dtype).eval().requires_grad_(False)
        self.parameters = OwnParameters(self.model)  # before anything is attached
        self.dtype, self.device = dtype, next(model.parameters()).device
        self.source: PackedBatch | None = None
        self.target: TargetBatch | StepBatch | None = None
        self._greatest: Greatest | None = None
        self._decoder: Decoder | None = None
        self._weights: Callable[[], Mapping[str, Tensor]] | None = None

    def round_to(self, dtype: torch.dtype) -> None:
        """Compute in another number format from now on, before anything is attached; rounding is for good."""
        self.model.to(dtype)
        self.dtype = dtype

    @property
    def poolings(self) -> tuple[str, ...]:
        """The poolings that this checkpoint has; `pooler` needs trained pooler weights in it."""
        has_pooler = getattr(self.model, "pooler", None) is not None
        return tuple(p for p in self.family.poolings if p != "pooler" or has_pooler)

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether it has a decoder, and so can answer text to text."""
        return self.family.seq2seq is not None

    @property
    def seq2seq(self) -> Seq2Seq:
        """What is needed to run the decoder. Raises BackboneError for an encoder."""
        if self.family.seq2seq is None:
            raise BackboneError(
                f"{self.name} is an encoder: it cannot answer text to text; use a T5 or BART backbone"
            )
        return self.family.seq2seq

    def pack(self, encoded: Sequence[Encoded], virtual: int | Sequence[int] = 0) -> PackedBatch:
        """Sequences -> one padding-free batch on the backbone's device.

        `virtual` tokens of a prompt stand in front of each row (one number, or one per row).
        """
        return pack(
            encoded,
            first_position=self.family.first_position(self.config),
            device=self.device,
            virtual=virtual,
            padded=self.family.padded,
        )

    def label_ids(self, labels: Sequence[str]) -> list[list[int]]:
        """Label strings as the decoder writes them, end of sequence included."""
        return self.text.targets(labels, int(self.config.eos_token_id))

    @property
    def has_other_weights(self) -> bool:
        """Whether batches run with weights of `weights_from`."""
        return self._weights is not None

    @contextmanager
    def running(
        self,
        batch: PackedBatch,
        through: Callable[[PackedBatch], Tensor] | None = None,
        decoder: Decoder | None = None,
    ) -> Iterator[Tensor]:
        """Run a batch with whatever is attached: gives the encoder's last hidden states [T, H], packed order.

        Within it the decoder runs on the same batch, and the weights of `weights_from` stay in place.
        `through` computes those states instead of the library's model, and `decoder` those of the decoder.
        """
        if self.source is not None:
            raise ValueError("another batch is running: this is a bug")
        own = nullcontext() if self._weights is None else replaced(self.parameters, self._weights())
        with own:
            self.source, self._decoder = batch, decoder
            try:
                yield (through or self._hidden)(batch)
            finally:
                self.source = self.target = self._decoder = None

    def states_entering(self, batch: PackedBatch, number: int) -> Tensor:
        """The states [T, H] that enter layer `number` (1 or more), in packed order; no layer from it on runs.

        What is attached acts below it.
        """
        with noted(self.layers, number) as found, ended_below(self.layers, number), self.running(batch):
            return found[0][0]

    def decode(self, hidden: Tensor, target: TargetBatch | StepBatch, memory: Memory | None = None) -> Tensor:
        """Decoder states [T', H] of the target tokens, on the states hidden [T, H] of the running batch.

        What passes on one batch have in common is taken from its `memory`, and left there.
        """
        seq2seq, self.target = self.seq2seq, target
        if self._decoder is not None:
            return self._decoder.decode(hidden, target, memory)
        seq2seq.place(self.model, "decoder", target.positions)
        output: Tensor = self.model.get_submodule(seq2seq.decoder)(
            input_ids=target.ids,
            encoder_hidden_states=hidden[None],
            past_key_values=memory,
            use_cache=memory is not None,
            packed=target,
        ).last_hidden_state
        return output[0]

    def logits(self, states: Tensor) -> Tensor:
        """States [T', H] of all tokens that were decoded last -> logits over the vocabulary [T', V]."""
        if self._decoder is not None:
            return self._decoder.logits(states)
        seq2seq = self.seq2seq
        logits: Tensor = self.model.get_submodule(seq2seq.output)(seq2seq.scaled(self.model, states[None]))[0]
        bias = seq2seq.bias(self.model)
        return logits if bias is None else logits + bias

    def most_probable(self, states: Tensor) -> Tensor:
        """States [T', H] of all tokens that were decoded last -> the tokens of the greatest logits [T']."""
        found = self._by_bounds(states)
        return self.logits(states).max(-1).indices if found is None else found  # argmax, but faster

    def _by_bounds(self, states: Tensor) -> Tensor | None:
        """`most_probable` where bounds of the logits tell it, and are faster."""
        seq2seq = self.seq2seq
        output: Any = self.model.get_submodule(seq2seq.output)
        own = frozen_module(self.model, seq2seq.output).weight
        acts = output.acts if isinstance(output, Tapped) else []
        if own is not self.parameters.every[f"{seq2seq.output}.weight"] or not pays(own):
            return None
        if not all(act.only_adds for _, act, _ in acts):
            return None
        if self._greatest is None:
            self._greatest = Greatest(own, seq2seq.bias(self.model))
        x = seq2seq.scaled(self.model, states)
        if self._decoder is not None:
            return self._greatest(x, self._decoder.shifts())
        nothing = shift = x.new_zeros(1).expand(1, len(x), len(own))
        for _, act, _ in acts:
            shift = act(x[None], shift)
        every = torch.arange(len(x), device=x.device)
        return self._greatest(x, None if shift is nothing else (every, shift[0]))

    @contextmanager
    def weights_from(self, source: Callable[[], Mapping[str, Tensor]]) -> Iterator[None]:
        """Within it, batches run with the weights that `source()` gives (by parameter name).

        `source` is called once per batch, so that gradients flow back to what it computes from.
        """
        if self._weights is not None:
            raise ValueError("other weights are in place already: this is a bug")
        self._weights = source
        try:
            yield
        finally:
            self._weights = None

    def _hidden(self, batch: PackedBatch) -> Tensor:
        inputs = {"input_ids": batch.ids}
        if self.family.positions:
            inputs["position_ids"] = batch.positions
        if getattr(self.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = batch.type_ids
        if self.family.padded:
            return self._padded_hidden(batch, inputs)
        model = self.model
        if self.family.seq2seq is not None:
            model = model.get_submodule(self.family.seq2seq.encoder)
            self.family.seq2seq.place(self.model, "encoder", batch.positions)
        entering = batch.entering
        skipping = entering and begun_at(self.layers, entering.number, entering.states[None])
        with skipping or nullcontext():
            output: Tensor = model(**inputs, packed=batch).last_hidden_state
        return output[0]

    def _padded_hidden(self, batch: PackedBatch, inputs: Mapping[str, Tensor]) -> Tensor:
        """For a model whose attention is its own: padded grids [B, L] go in, their tokens come out."""
        (whole,) = groups(batch.layout.lengths, self.device, math.inf)
        grids = {name: whole.grid(values[0]) for name, values in inputs.items()}
        mask = torch.ones_like(grids["input_ids"]) if whole.mask is None else whole.mask[:, 0, 0].long()
        return whole.tokens(self.model(**grids, attention_mask=mask).last_hidden_state)


def family_of(config: PreTrainedConfig) -> Family:
    """The family that answers for this config. Raises BackboneError naming the known ones."""
    return family_named(config.model_type)


def family_named(model_type: str) -> Family:
    """The family of a config's `model_type`. Raises BackboneError naming the known ones."""
    try:
        return FAMILIES[model_type]
    except UnknownNameError as error:
        raise BackboneError(f"model type {model_type!r} is not supported: {error}") from error
