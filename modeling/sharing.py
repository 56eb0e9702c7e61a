"""Rows of one batch that hold the same text: what is the same for them is computed once.

Below the lowest layer on which its adapter acts, a row's states depend on its text alone, whoever asks: up to
there, rows of one text are one *stream*. It knows texts and layers, no network. Layers are numbered from 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from .sites import Site, Tap
from .text import Encoded

_LEAST_GAIN = 0.1  # of the work of all layers: below it a second pass costs more than it spares


@dataclass(frozen=True, slots=True)
class Streams:
    """Below `layer` (1 or more) row i is stream `of_row[i]`, and row `firsts[s]` stands for stream s."""

    layer: int
    firsts: list[int]
    of_row: list[int]


def lowest_layer(taps: Iterable[Tap], num_layers: int) -> int:
    """The lowest of so many layers on which something acts at these taps; their number if nothing does.

    What acts on the decoder acts behind all layers of the encoder.
    """
    return min((_layer_of(tap, num_layers) for tap in taps), default=num_layers) if num_layers else 0


def _layer_of(tap: Tap, num_layers: int) -> int:
    if tap.stack != "encoder" or tap.site is Site.FINAL_NORM:
        return num_layers
    return 0 if tap.site is Site.EMBED else tap.layer


def streams_of(texts: Sequence[Encoded], lowest: Sequence[int], num_layers: int) -> Streams | None:
    """The streams that spare most, where row i is `texts[i]` under what acts from layer `lowest[i]` on.

    None where nothing is shared, or too little to be worth a pass of its own.
    """
    if len(texts) < 2:
        return None
    same = [_read(text) for text in texts]
    if not num_layers or len(set(same)) == len(same):
        return None
    lengths = [len(text) for text in texts]
    most, best = _LEAST_GAIN * num_layers * sum(lengths), None
    for layer in {number for number in lowest if number}:
        found = _up_to(layer, same, lowest)
        spared = layer * (sum(lengths) - sum(lengths[first] for first in found.firsts))
        if spared > most:
            most, best = spared, found
    return best


def _up_to(layer: int, same: Sequence[Hashable], lowest: Sequence[int]) -> Streams:
    """A stream for each text, and one for each row whose adapter acts below the layer."""
    numbers: dict[Hashable, int] = {}
    firsts: list[int] = []
    of_row: list[int] = []
    for row, (text, own) in enumerate(zip(same, lowest, strict=True)):
        key = text if own >= layer else row
        if key not in numbers:
            numbers[key] = len(firsts)
            firsts.append(row)
        of_row.append(numbers[key])
    return Streams(layer, firsts, of_row)


def _read(text: Encoded) -> Hashable:
    """What the encoder reads of a text."""
    return tuple(text.ids), tuple(text.type_ids)


def distinct(texts: Sequence[Encoded], slots: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows that nothing tells apart are one: the rows that are left, and which of them each row is."""
    numbers: dict[Hashable, int] = {}
    left: list[int] = []
    of_row: list[int] = []
    for row, (text, slot) in enumerate(zip(texts, slots, strict=True)):
        key = slot, _read(text), text.target, text.words
        if key not in numbers:
            numbers[key] = len(left)
            left.append(row)
        of_row.append(numbers[key])
    return left, of_row
