"""Kinds: what logits mean, and how they become an answer; one kind, one file, found by discovery."""

from ..registry import discover
from .base import KINDS, Abstention, Answer, HeadSpec, Kind

discover(__name__, __path__)

__all__ = ["KINDS", "Abstention", "Answer", "HeadSpec", "Kind"]
