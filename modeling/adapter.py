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
        _require_fit(backbone, method, spec)
        with torch.random.fork_rng(devices=[]), _method_errors():
            torch.manual_seed(seed)
            adapter = cls._build(backbone, method, spec)
        for module in adapter._modules():
            module.to(backbone.device).requires_grad_(True)
        return adapter

    @classmethod
    def blank(
        cls, backbone: Backbone, method: Method, spec: HeadSpec, tensors: Mapping[str, Tensor]
    ) -> Adapter:
        """Without values at taps and head: nothing is drawn, and what nobody fills in cannot be read.

        Their modules are on the meta device, where reading is an error; but what modules share is that of the
        `tensors`, because they keep hold of it. Raises AdapterError as `create` does.
        """
        _require_fit(backbone, method, spec)
        with _method_errors():
            adapter = cls._build(backbone, method, spec, tensors)
        if adapter.weights is not None:
            adapter.weights.to(backbone.device)
        if any(map(_has_lost_constants, adapter._modules())):
            return cls.create(backbone, method, spec)
        return adapter

    @classmethod
    def _build(
        cls, backbone: Backbone, method: Method, spec: HeadSpec, given: Mapping[str, Tensor] | None = None
    ) -> Adapter:
        """With the paper's initial values, from the current random state; without, if tensors are `given`.

        The weights of an exclusive method have values in any case: they begin as the backbone's.
        """
        readout, head = readout_of(spec), None
        weights = method.weights(backbone.parameters)
        if weights is not None and not readout.decodes and set(weights.file_tensors()) == {OUTPUT_LAYER}:
            raise MethodError(
                f"method {method.name}: train_output_layer needs a text_to_text task on this backbone, whose "
                f"output layer is not its embedding: a {spec.kind} task does not read it"
            )
        taps = method.select([tap for tap in backbone.taps if readout.passes(tap)])
        with nullcontext() if given is None else torch.device("meta"):
            shared = method.share(taps)
            for name, parameter in shared.items():  # on the device before modules refer to them
                start = parameter if given is None else given.get(f"shared/{name}")
                if start is not None and start.shape == parameter.shape:
                    shared[name] = nn.Parameter(start.detach().to(backbone.device, torch.float32, copy=True))
            body = {
                tap: method.build(tap, frozen_module(backbone.model, tap.path), shared).float()
                for tap in taps
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
        adapter = cls.blank(backbone, method, spec, tensors)
        failures = _compare(adapter.named_parameters(), tensors)
        if failures:
            raise AdapterError(failures)
        adapter._fill(tensors, backbone.device)
        return adapter

    def _fill(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Copy a file's tensors to their places; shared ones are there since `blank`."""
        for name, holders in self.places().items():
            parameter = nn.Parameter(tensors[name].detach().to(device, torch.float32, copy=True))
            for holder, own in holders:
                holder.register_parameter(own, parameter)
        copied: dict[str, Tensor] = {f"shared/{name}": parameter for name, parameter in self.shared.items()}
        if self.weights is not None:
            copied |= {f"weights/{name}": value for name, value in self.weights.file_tensors().items()}
        with torch.no_grad():
            for name, value in copied.items():
                value.copy_(tensors[name])
        left = [name for name, value in self.named_parameters().items() if value.is_meta]
        assert not left, f"{left} came from nowhere; this is a bug"

    def places(self) -> dict[str, list[tuple[nn.Module, str]]]:
        """Where the tensors of taps and head stand, by file name: the module that holds one, its name there.

        Tied parameters of a module are one tensor at several places.
        """
        found: dict[str, list[tuple[nn.Module, str]]] = {}
        named = {tap.key: module for tap, module in self.body.items()}
        for key, module in (named if self.head is None else named | {"head": self.head}).items():
            names: dict[int, str] = {}
            for path, holder in module.named_modules():
                for own, parameter in holder._parameters.items():
                    if parameter is not None:
                        name = names.setdefault(id(parameter), f"{path}.{own}" if path else own)
                        found.setdefault(f"{key}/{name}", []).append((holder, own))
        return found

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

    def _modules(self) -> list[nn.Module]:
        return [*self._body_modules(), *([] if self.head is None else [self.head])]

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
    idle: bool = False
    only_adds: bool = False

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        new: Tensor = self.module(x, y, self.backbone.source)
        return new


def _require_fit(backbone: Backbone, method: Method, spec: HeadSpec) -> None:
    """Raise AdapterError, with every failure, unless head and layers fit the backbone."""
    failures, readout = _check_spec(backbone, spec)
    try:
        method.select([tap for tap in backbone.taps if readout.passes(tap)])
    except MethodError as error:
        allowed, remedy = "layers of this backbone", "train for this backbone."
        failures.append(Failure("method.config.layers", str(error), allowed, remedy))
    if failures:
        raise AdapterError(failures)


@contextmanager
def _method_errors() -> Iterator[None]:
    """A method that does not fit the backbone, as an AdapterError."""
    try:
        yield
    except MethodError as error:
        allowed, remedy = "options that fit this backbone", "train for this backbone."
        raise AdapterError([Failure("method.config", str(error), allowed, remedy)]) from error


def _has_lost_constants(module: nn.Module) -> bool:
    """Whether something in it beside its parameters is without values, which no file would bring."""
    return any(
        isinstance(value, Tensor) and value.is_meta
        for holder in module.modules()
        for value in (*holder._buffers.values(), *vars(holder).values())
    )


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
