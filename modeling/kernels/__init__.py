"""Row kernels in C for packed batches on the CPU; they read parameters where banks keep them.

States are float32 or bfloat16, parameters and all that is added up float32.
Shapes: B rows (sequences), T tokens of all, D width of a token, S rows of a bank. `rows.c` is the whole of
it, with its vectors in `vectors.h`; `library` finds what was built of it, `calls` speaks its language.
"""

from .calls import ACTIVATIONS, Attention, Block, Kernels, Normal, Projection, RowCall, Rows, Scales
from .library import kernels

__all__ = [
    "ACTIVATIONS",
    "Attention",
    "Block",
    "Kernels",
    "Normal",
    "Projection",
    "RowCall",
    "Rows",
    "Scales",
    "kernels",
]
