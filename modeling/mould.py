"""Serving forms of many files of one kind, without modules of their own.

Ten thousand tasks are a few methods on one backbone. Their modules differ in nothing but values, so one set
of them without values is filled with file after file and packed each time. It knows no files: tensors go in.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

from torch import Tensor, nn

from .adapter import Adapter, PackedAdapter
from .backbone import Backbone
from .kinds import HeadSpec
from .methods import Method
from .readouts import readout_of


class Mould:
    """The modules of one method for one kind of head. Safe for threads, which take turns."""

    def __init__(self, backbone: Backbone, method: Method, spec: HeadSpec) -> None:
        """Raises AdapterError if head or layers do not fit the backbone."""
        self._backbone, self._method = backbone, method
        self._blank = Adapter.blank(backbone, method, spec, {})
        self._places = {name: at for name, at in self._blank.places().items() if not name.startswith("head/")}
        named = self._blank.named_parameters().items()
        self._shapes = {name: tuple(tensor.shape) for name, tensor in named if not name.startswith("head/")}
        self._lock = Lock()
        self.exclusive = self._blank.weights is not None

    def cast(self, spec: HeadSpec, tensors: Mapping[str, Tensor]) -> PackedAdapter:
        """`Adapter.from_tensors(...).pack()` of float32 tensors on the CPU that are known to be finite.

        It shares memory with the tensors. Raises AdapterError with every difference.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if shapes != self._shapes | self._head_shapes(spec):
            return Adapter.from_tensors(self._backbone, self._method, spec, tensors).pack()
        with self._lock:
            for name, holders in self._places.items():
                parameter = nn.Parameter(tensors[name], requires_grad=False)
                for holder, own in holders:
                    holder._parameters[own] = parameter
            body = {tap: module.pack() for tap, module in self._blank.body.items()}
        parts = [part for tap in body.values() for part in tap.parts.values()]
        if any(part.is_meta for part in parts if isinstance(part, Tensor)):  # not made of the file's tensors
            return Adapter.from_tensors(self._backbone, self._method, spec, tensors).pack()
        shared = {name: tensors[f"shared/{name}"] for name in self._blank.shared}
        return PackedAdapter(
            body,
            tensors.get("head/weight"),
            tensors.get("head/bias"),
            spec,
            shared=shared,
            virtual_tokens=self._blank.virtual_tokens,
        )

    def _head_shapes(self, spec: HeadSpec) -> dict[str, tuple[int, ...]]:
        if self._blank.head is None:
            return {}
        num_labels, width = len(spec.labels), self._blank.head.in_features
        return {"head/weight": (num_labels, width), "head/bias": (num_labels,)}


class Moulds:
    """The moulds of one backbone, made when first needed. Safe for threads.

    What an exclusive method has is served as it is, so each file gets its own.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._moulds: dict[tuple[str, ...], Mould | None] = {}

    def cast(self, method: Method, spec: HeadSpec, tensors: Mapping[str, Tensor]) -> PackedAdapter:
        """As `Mould.cast`."""
        key = repr(method), readout_of(spec).name, spec.kind, spec.pooling  # all that must fit the backbone
        if key not in self._moulds:
            made = Mould(self.backbone, method, spec)
            self._moulds[key] = None if made.exclusive else made
        mould = self._moulds[key]
        if mould is None:
            return Adapter.from_tensors(self.backbone, method, spec, tensors).pack()
        return mould.cast(spec, tensors)
