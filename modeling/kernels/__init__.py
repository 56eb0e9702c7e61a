"""Row kernels in C for packed batches on the CPU, in float32; they read parameters where banks keep them.

Shapes: B rows (sequences), T tokens of all, D width of a token, S rows of a bank. `rows.c` is the whole of
it; `library` finds what was built of it, `calls` speaks its language.
"""

from .calls import ACTIVATIONS, Block, Kernels, Projection, RowCall, Rows, Scales
from .library import kernels

__all__ = ["ACTIVATIONS", "Block", "Kernels", "Projection", "RowCall", "Rows", "Scales", "kernels"]
