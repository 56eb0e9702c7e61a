"""Readouts: how logits or text come out of a backbone; one readout, one file, found by discovery."""

from __future__ import annotations

from ..errors import UnknownNameError
from ..kinds import KINDS, HeadSpec, Kind
from ..registry import discover
from .base import DECODER_KIND, READOUTS, Cost, Pass, Readout, Reads, Wanted

discover(__name__, __path__)


def readout_of(spec: HeadSpec) -> Readout:
    """What reads the answers of this spec. Raises UnknownNameError for a kind that no file may name."""
    for _, readout in READOUTS.items():
        if readout.reads(spec):
            return readout
    raise UnknownNameError("head kind", spec.kind, file_kinds())


def kind_of(spec: HeadSpec) -> Kind:
    """What the logits of this spec mean. Raises UnknownNameError as `readout_of`."""
    return KINDS[readout_of(spec).kind(spec)]


def file_kinds() -> list[str]:
    """Every kind that a file may name, sorted."""
    return sorted({READOUTS[kind.readout].file_kind or name for name, kind in KINDS.items()})


__all__ = [
    "DECODER_KIND",
    "READOUTS",
    "Cost",
    "Pass",
    "Readout",
    "Reads",
    "Wanted",
    "file_kinds",
    "kind_of",
    "readout_of",
]
