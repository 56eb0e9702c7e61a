"""Row ops: the handful of ways in which per-row parameters act on a mixed batch."""

from ..registry import discover
from .base import OPS, PackedTap, RowOp, Shared, Static, TapModule

discover(__name__, __path__)

__all__ = ["OPS", "PackedTap", "RowOp", "Shared", "Static", "TapModule"]
