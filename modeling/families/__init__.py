"""Families: where the sites of each kind of backbone are; one file each, found by discovery."""

from ..registry import discover
from .base import FAMILIES, Family, Scores, Seq2Seq

discover(__name__, __path__)

__all__ = ["FAMILIES", "Family", "Scores", "Seq2Seq"]
