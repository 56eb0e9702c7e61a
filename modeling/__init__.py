"""modeling: the maths that training and service share.

Shapes: B rows (sequences), T tokens of a whole packed batch, H hidden, F feed-forward, L labels, S rows of
a bank, G slots. It knows tensors and networks; it knows no files, versions, HTTP or training loops.
"""

from .adapter import Adapter, PackedAdapter
from .backbone import Backbone
from .counts import MethodCount, methods_table
from .errors import (
    AdapterError,
    BackboneError,
    MethodError,
    ModelingError,
    TextError,
    UnknownNameError,
)
from .families import FAMILIES
from .kinds import KINDS, Abstention, Answer, HeadSpec, Kind
from .loading import load_backbone
from .methods import METHODS, Method
from .mould import Moulds
from .packed import Entering, PackedBatch
from .readouts import READOUTS, Readout, Wanted, file_kinds, kind_of, readout_of
from .served import Placement, ServedModel, recorded_or_fast
from .side_by_side import SideBySide
from .sites import Site, Tap
from .text import Encoded, EncodedApart, EncodedRow, TextItem, Tokens

__all__ = [
    "FAMILIES",
    "KINDS",
    "METHODS",
    "READOUTS",
    "Abstention",
    "Adapter",
    "AdapterError",
    "Answer",
    "Backbone",
    "BackboneError",
    "Encoded",
    "EncodedApart",
    "EncodedRow",
    "Entering",
    "HeadSpec",
    "Kind",
    "Method",
    "MethodCount",
    "MethodError",
    "ModelingError",
    "Moulds",
    "PackedAdapter",
    "PackedBatch",
    "Placement",
    "Readout",
    "ServedModel",
    "SideBySide",
    "Site",
    "Tap",
    "TextError",
    "TextItem",
    "Tokens",
    "UnknownNameError",
    "Wanted",
    "file_kinds",
    "kind_of",
    "load_backbone",
    "methods_table",
    "readout_of",
    "recorded_or_fast",
]
