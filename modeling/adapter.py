"""Adapter: a method's modules on the taps of a backbone, and a head; training form, tensors, serving form.

It knows no files: tensors and plain configurations go in and come out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from failures import Failure

from .backbone import Backbone
from .errors import AdapterError, MethodError, UnknownNameError
from .kinds import HeadSpec
from .methods import Method
from .methods.exclusive import Weights
from .methods.output_layer import OUTPUT_LAYER
from .ops import PackedTap, TapModule
from .readouts import READOUTS, Readout, readout_of
from .sites import Site, Tap
from .tapped import Act, attached, frozen_module

_HEAD_INIT_STD = 0.02


@dataclass(frozen=True, slots=True)
class PackedAdapter:
    """The serving form: op parameters by tap and shared ones, the head's weight [L, F], bias [L] and spec.

    A text-to-text task has no head of its own. `weights` is set for an exclusive method: what the
    backbone's weights become.
    """

    body: Mapping[Tap, PackedTap]
    head_weight: Tensor | None
    head_bias: Tensor | None
    spec: HeadSpec
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    virtual_tokens: int = 0
    weights: Weights | None = None


class Adapter:
    """Trained (or trainable) parameters of one method for one task, and the task's head.

    `body` are modules at taps, `shared` the parameters that all of them use, `weights` the module of an
    exclusive method. `head` is None where the readout has none.
    """

    def __init__(
        self,
        method: Method,
        spec: HeadSpec,
        body: dict[Tap, TapModule],
        head: nn.Linear | None,
        shared: Mapping[str, nn.Parameter] | None = None,
        weights: Weights | None = None,
    ) -> None:
        self.method, self.spec, self.body, self.head = method, spec, body, head
        self.shared, self.weights = dict(shared or {}), weights

    @classmethod
    def create(cls, backbone: Backbone, method: Method, spec: HeadSpec, *, seed: int = 0) -> Adapter:
        """A new adapter with the paper's initial values, on the backbone's device.

        Raises AdapterError if the head or the method's layers do not fit the backbone.
        """
        failures, readout = _check_spec(backbone, spec)
        try:
            method.select([tap for tap in backbone.taps if readout.passes(tap)])
        except MethodError as error:
            allowed, remedy = "layers of this backbone", "train for this backbone."
            failures.append(Failure("method.config.layers", str(error), allowed, remedy))
        if failures:
            raise AdapterError(failures)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                adapter = cls._build(backbone, method, spec)
            except MethodError as error:
                allowed, remedy = "options that fit this backbone", "train for this backbone."
                raise AdapterError([Failure("method.config", str(error), allowed, remedy)]) from error
        for module in (*adapter._body_modules(), *([] if adapter.head is None else [adapter.head])):
            module.to(backbone.device).requires_grad_(True)
        return adapter

    @classmethod
    def _build(cls, backbone: Backbone, method: Method, spec: HeadSpec) -> Adapter:
        """With the paper's initial values, from the current random state."""
        readout, head = readout_of(spec), None
        weights = method.weights(backbone.parameters)
        if weights is not None and not readout.decodes and set(weights.file_tensors()) == {OUTPUT_LAYER}:
            raise MethodError(
                f"method {method.name}: train_output_layer needs a text_to_text task on this backbone, whose "
                f"output layer is not its embedding: a {spec.kind} task does not read it"
            )
        taps = method.select([tap for tap in backbone.taps if readout.passes(tap)])
        shared = method.share(taps)
        for name, parameter in shared.items():  # on the device before modules refer to them
            shared[name] = nn.Parameter(parameter.detach().float().to(backbone.device))
        body = {
            tap: method.build(tap, frozen_module(backbone.model, tap.path), shared).float() for tap in taps
        }
        if readout.has_head:
            head = nn.Linear(readout.width(backbone.hidden_size), len(spec.labels))
            nn.init.normal_(head.weight, std=_HEAD_INIT_STD)
            nn.init.zeros_(head.bias)
        return cls(method, spec, body, head, shared, weights)

    @classmethod
    def from_tensors(
        cls, backbone: Backbone, method: Method, spec: HeadSpec, tensors: Mapping[str, Tensor]
    ) -> Adapter:
        """The adapter that `tensors` hold. Strict: exactly the expected tensors, exact shapes, finite.

        Raises AdapterError with every failure.
        """
        adapter = cls.create(backbone, method, spec)
        wanted = adapter.named_parameters()
        failures = _compare(wanted, tensors)
        if failures:
            raise AdapterError(failures)
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(tensors[name])
        return adapter

    def to_tensors(self) -> dict[str, Tensor]:
        """Copies on the CPU in float32, by file name: `encoder.3.attn_context/scale`, `head/weight`."""
        named = self.named_parameters().items()
        return {name: parameter.detach().float().cpu().clone() for name, parameter in named}

    @property
    def virtual_tokens(self) -> int:
        """Virtual tokens in front of every text; what packs texts for this adapter must be told.

        None where what stands at them has been left out of the body.
        """
        stand = any(module.op.by_place for module in self.body.values())
        return self.method.virtual_tokens if stand else 0

    @contextmanager
    def attached(self, backbone: Backbone) -> Iterator[None]:
        """Put the training form on the backbone for the time of the context."""
        acts: dict[Tap, Act] = {
            tap: _PlacedAct(module, backbone) if module.op.by_place else module
            for tap, module in self.body.items()
        }
        swapped = nullcontext() if self.weights is None else backbone.weights_from(self.weights)
        with swapped, attached(backbone.model, acts):
            yield

    def body_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters but for the head, shared ones first, then in the order of the taps."""
        own = [parameter for module in self._body_modules() for parameter in module.parameters()]
        return [*self.shared.values(), *own]

    @property
    def num_body_parameters(self) -> int:
        """What papers count: everything but the head."""
        return sum(parameter.numel() for parameter in self.body_parameters())

    @property
    def num_head_parameters(self) -> int:
        return 0 if self.head is None else sum(parameter.numel() for parameter in self.head.parameters())

    def pack(self) -> PackedAdapter:
        """The serving form; it shares memory with this adapter."""
        head = self.head
        return PackedAdapter(
            body={tap: module.pack() for tap, module in self.body.items()},
            head_weight=None if head is None else head.weight.detach(),
            head_bias=None if head is None else head.bias.detach(),
            spec=self.spec,
            shared={name: parameter.detach() for name, parameter in self.shared.items()},
            virtual_tokens=self.virtual_tokens,
            weights=self.weights,
        )

    def _body_modules(self) -> list[nn.Module]:
        return [*self.body.values(), *([] if self.weights is None else [self.weights])]

    def named_parameters(self) -> dict[str, Tensor]:
        """Everything that a file holds, by its name there."""
        named: dict[str, Tensor] = {f"shared/{name}": p for name, p in self.shared.items()}
        for tap, module in self.body.items():
            named |= {f"{tap.key}/{name}": parameter for name, parameter in module.named_parameters()}
        if self.weights is not None:
            named |= {f"weights/{name}": parameter for name, parameter in self.weights.file_tensors().items()}
        if self.head is not None:
            named |= {f"head/{name}": parameter for name, parameter in self.head.named_parameters()}
        return named


def usable_taps(taps: Sequence[Tap], *, decodes: bool) -> list[Tap]:
    """The taps that a task passes: only where a decoder answers, the output layer is read."""
    return [tap for tap in taps if decodes or tap.site is not Site.LM_HEAD]


@dataclass(frozen=True, slots=True)
class _PlacedAct:
    """A training form that must know where rows begin: it is told the batch that runs."""

    module: TapModule
    backbone: Backbone
    replaces: bool = False
    only_adds: bool = False

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        new: Tensor = self.module(x, y, self.backbone.source)
        return new


def _check_spec(backbone: Backbone, spec: HeadSpec) -> tuple[list[Failure], Readout]:
    """What is wrong with a spec on this backbone, and what reads its answers."""
    try:
        readout = readout_of(spec)
    except UnknownNameError as error:
        known = ", ".join(error.known)
        unknown = Failure("head.kind", repr(spec.kind), known, "use a kind that this version knows.")
        return [unknown, *READOUTS["pooled"].check_backbone(spec, backbone)], READOUTS["pooled"]
    return [*readout.check(spec), *readout.check_backbone(spec, backbone)], readout


def _compare(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[Failure]:
    """Every difference in names, shapes and finiteness."""
    remedy = "write the file with the trainer of this version; nothing is filled in or left out."
    failures = [Failure(n, "nothing", "this tensor", remedy) for n in sorted(set(wanted) - set(got))]
    failures += [
        Failure(n, "a tensor of this name", "no such tensor", remedy) for n in sorted(set(got) - set(wanted))
    ]
    for name in sorted(set(wanted) & set(got)):
        have, want = tuple(got[name].shape), tuple(wanted[name].shape)
        if have != want:
            failures.append(Failure(name, f"shape {list(have)}", f"shape {list(want)}", remedy))
        elif not torch.isfinite(got[name]).all():
            failures.append(Failure(name, "NaN or infinite values", "finite values", "train again."))
    return failures
