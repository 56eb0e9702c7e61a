"""Adapter: a method's modules on the taps of a backbone, and a head; training form, tensors, serving form.

It knows no files: tensors and plain configurations go in and come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .errors import AdapterError, Failure, MethodError, UnknownNameError
from .heads import HEADS, HeadSpec
from .methods import Method
from .ops import PackedTap
from .sites import Tap
from .tapped import Act, attached, frozen_module

_HEAD_INIT_STD = 0.02


@dataclass(frozen=True, slots=True)
class PackedAdapter:
    """The serving form: op parameters by tap, the head's weight [L, H] and bias [L], the head's spec."""

    body: Mapping[Tap, PackedTap]
    head_weight: Tensor
    head_bias: Tensor
    spec: HeadSpec


class Adapter:
    """Trained (or trainable) parameters of one method for one task, and the task's head."""

    def __init__(self, method: Method, spec: HeadSpec, body: dict[Tap, nn.Module], head: nn.Linear) -> None:
        self.method, self.spec, self.body, self.head = method, spec, body, head

    @classmethod
    def create(cls, backbone: Backbone, method: Method, spec: HeadSpec, *, seed: int = 0) -> Adapter:
        """A new adapter with the paper's initial values, on the backbone's device.

        Raises AdapterError if the head or the method's layers do not fit the backbone.
        """
        failures = _check_spec(backbone, spec)
        taps: list[Tap] = []
        try:
            taps = method.select(backbone.taps)
        except MethodError as error:
            failures.append(
                Failure(
                    "method.config.layers", str(error), "layers of this backbone", "train for this backbone."
                )
            )
        if failures:
            raise AdapterError(failures)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = {tap: method.build(tap, frozen_module(backbone.model, tap.path)).float() for tap in taps}
            head = nn.Linear(backbone.hidden_size, len(spec.labels))
            nn.init.normal_(head.weight, std=_HEAD_INIT_STD)
            nn.init.zeros_(head.bias)
        for module in [*body.values(), head]:
            module.to(backbone.device).requires_grad_(True)
        return cls(method, spec, body, head)

    @classmethod
    def from_tensors(
        cls, backbone: Backbone, method: Method, spec: HeadSpec, tensors: Mapping[str, Tensor]
    ) -> Adapter:
        """The adapter that `tensors` hold. Strict: exactly the expected tensors, exact shapes, finite.

        Raises AdapterError with every failure.
        """
        adapter = cls.create(backbone, method, spec)
        wanted = adapter._named_parameters()
        failures = _compare(wanted, tensors)
        if failures:
            raise AdapterError(failures)
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(tensors[name])
        return adapter

    def to_tensors(self) -> dict[str, Tensor]:
        """Copies on the CPU in float32, by file name: `encoder.3.attn_context/scale`, `head/weight`."""
        named = self._named_parameters().items()
        return {name: parameter.detach().float().cpu().clone() for name, parameter in named}

    def attached(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Put the training form on the backbone's taps for the time of the context."""
        acts: dict[Tap, Act] = dict(self.body)  # type: ignore[arg-type]  # modules at taps are acts
        return attached(backbone.model, acts)

    def body_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters at the taps, in the order of the taps."""
        return [parameter for module in self.body.values() for parameter in module.parameters()]

    @property
    def num_body_parameters(self) -> int:
        """What papers count: everything but the head."""
        return sum(parameter.numel() for parameter in self.body_parameters())

    @property
    def num_head_parameters(self) -> int:
        """Weight and bias of the head."""
        return sum(parameter.numel() for parameter in self.head.parameters())

    def pack(self) -> PackedAdapter:
        """The serving form; it shares memory with this adapter."""
        body = {tap: self.method.pack(tap, module) for tap, module in self.body.items()}
        return PackedAdapter(body, self.head.weight.detach(), self.head.bias.detach(), self.spec)

    def _named_parameters(self) -> dict[str, nn.Parameter]:
        named = {
            f"{tap.key}/{name}": parameter
            for tap, module in self.body.items()
            for name, parameter in module.named_parameters()
        }
        return named | {f"head/{name}": parameter for name, parameter in self.head.named_parameters()}


def _check_spec(backbone: Backbone, spec: HeadSpec) -> list[Failure]:
    try:
        failures = HEADS[spec.kind].check(spec)
    except UnknownNameError as error:
        known = ", ".join(error.known)
        failures = [Failure("head.kind", repr(spec.kind), known, "use a kind that this version knows.")]
    if spec.pooling not in backbone.poolings:
        known = ", ".join(backbone.poolings)
        failures.append(Failure("head.pooling", repr(spec.pooling), known, "train for this backbone."))
    return failures


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
