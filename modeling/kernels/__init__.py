"""Row kernels in C for packed batches on the CPU, in float32; they read parameters where banks keep them.

Shapes: B rows (sequences), T tokens of all, D width of a token, S rows of a bank. `rows.c` is for
whole batches and `text.c` for text to text; `library` finds what was built of them, `calls` and `text` speak
their language.
"""

from .calls import ACTIVATIONS, Block, Kernels, Projection, RowCall, Rows, Scales
from .library import kernels, text_kernels
from .text import Spans, TextKernels, TextProduct

__all__ = [
    "ACTIVATIONS",
    "Block",
    "Kernels",
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
