"""DeBERTa v2 and v3: v1's layout with separate projections, which it may also use for relative positions.

With `share_att_key` (every v3 checkpoint) the query and key projections are applied a second time, to the
relative position embeddings. These carry no batch axis: rows with different adapters share them. So an
adapter acts on the projection of the content alone, and `_content_only` keeps the second use frozen. (PEFT
adapts both uses, so weights of query or key that were trained there are not the same function here.)
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor

from ..tapped import Tapped
from .base import FAMILIES, Family
from .bert import PostNorm

_NAMES = PostNorm(
    query="attention.self.query_proj", key="attention.self.key_proj", value="attention.self.value_proj"
)


class _Frozen:
    """An attention module as it is without what acts on its projections."""

    def __init__(self, attention: Any) -> None:
        self._attention = attention

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._attention, name)
        return value.base if isinstance(value, Tapped) else value


def _frozen_bias(attention: Any, *args: Any, **kwargs: Any) -> Tensor:
    """The library's bias of relative positions, computed with the frozen projections."""
    bias: Tensor = type(attention).disentangled_attention_bias(_Frozen(attention), *args, **kwargs)
    return bias


def _content_only(model: Any) -> None:
    """Let acts on the query and key projections see content, never relative positions."""
    for layer in model.encoder.layer:
        attention = layer.attention.self
        # A bound method, not a closure: it follows a deep copy of the model.
        attention.disentangled_attention_bias = MethodType(_frozen_bias, attention)


FAMILIES.add(Family("deberta-v2", _NAMES.taps, padded=True, prepare=_content_only))
