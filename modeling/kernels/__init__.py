"""Row kernels in C for packed batches on the CPU; they read parameters where banks keep them.

States are float32 or bfloat16, parameters and all that is added up float32.
Shapes: B rows (sequences), T tokens of all, D width of a token, S rows of a bank. `rows.c` is for whole
batches, with its vectors in `vectors.h`, and `text.c` for text to text; `library` finds what was built of
them, `calls` and `text` speak their language.
"""

from .calls import ACTIVATIONS, Attention, Block, Kernels, Normal, Projection, RowCall, Rows, Scales
from .library import kernels, text_kernels
from .text import Spans, TextKernels, TextProduct

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
    "Spans",
    "TextKernels",
    "TextProduct",
    "kernels",
    "text_kernels",
]
