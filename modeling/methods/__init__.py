"""Methods: the ways to adapt a frozen backbone; one file each, found by discovery."""

from ..registry import discover
from .base import METHODS, Method
from .options import select_layers

discover(__name__, __path__)

__all__ = ["METHODS", "Method", "select_layers"]
