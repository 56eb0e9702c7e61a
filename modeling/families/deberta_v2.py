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
from transformers import PreTrainedConfig

from ..tapped import Tapped
from .base import FAMILIES, Family
from .bert import PostNorm
from .deberta import DEBERTA_READS, relative_positions

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


def _derived(config: PreTrainedConfig) -> dict[str, Any]:
    """Fields that the config's class does not declare; the library takes these values where they are not."""
    kernel, relative = getattr(config, "conv_kernel_size", 0), relative_positions(config)
    if kernel > 0:
        relative["conv"] = (kernel, getattr(config, "conv_groups", 1), getattr(config, "conv_act", "tanh"))
    if config.relative_attention:
        relative |= {
            "position_buckets": getattr(config, "position_buckets", -1),
            "share_att_key": getattr(config, "share_att_key", False),
            "norm_rel_ebd": getattr(config, "norm_rel_ebd", "none").lower(),
        }
    return relative


FAMILIES.add(Family("deberta-v2", _NAMES.taps, DEBERTA_READS, _derived, padded=True, prepare=_content_only))
