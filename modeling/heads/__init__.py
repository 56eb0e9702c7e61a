"""Heads: what logits mean, and how they become an answer; one kind, one file, found by discovery."""

from ..registry import discover
from .base import HEADS, Answer, HeadKind, HeadSpec, answer

discover(__name__, __path__)

__all__ = ["HEADS", "Answer", "HeadKind", "HeadSpec", "answer"]
