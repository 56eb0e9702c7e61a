"""Methods: the ways to adapt a frozen backbone; one file each, found by discovery."""

from ..registry import discover
from .base import METHODS, Method

discover(__name__, __path__)

__all__ = ["METHODS", "Method"]
