"""modeling: the maths that training and service share.

Shapes: B rows (sequences), T tokens of a whole packed batch, H hidden, F feed-forward, L labels, S rows of
a bank, G slots. It knows tensors and networks; it knows no files, versions, HTTP or training loops.
"""

from .adapter import Adapter, PackedAdapter
from .backbone import Backbone
from .counts import ARCHITECTURES, MethodCount, methods_table
from .errors import (
    AdapterError,
    BackboneError,
    Failure,
    MethodError,
    ModelingError,
    TextError,
    UnknownNameError,
)
from .families import FAMILIES
from .heads import HEADS, Answer, HeadSpec, answer
from .loading import load_backbone
from .methods import METHODS, Method
from .packed import PackedBatch
from .pooling import pooled_states
from .served import ServedModel
from .sites import Site, Tap
from .text import Encoded, TextEncoder, TextItem, Tokens

__all__ = [
    "ARCHITECTURES",
    "FAMILIES",
    "HEADS",
    "METHODS",
    "Adapter",
    "AdapterError",
    "Answer",
    "Backbone",
    "BackboneError",
    "Encoded",
    "Failure",
    "HeadSpec",
    "Method",
    "MethodCount",
    "MethodError",
    "ModelingError",
    "PackedAdapter",
    "PackedBatch",
    "ServedModel",
    "Site",
    "Tap",
    "TextEncoder",
    "TextError",
    "TextItem",
    "Tokens",
    "UnknownNameError",
    "answer",
    "load_backbone",
    "methods_table",
    "pooled_states",
]
