"""Rows as text: the official source and target strings of GLUE and SuperGLUE, a plain form for other data.

Pure text: no tokens, no tensors, no files. What the published code does otherwise than its papers say is
named where it happens (`official.py`) and chosen by one switch, `official_code`.
"""

from training.formats.formatter import Formatter, choose_formatter
from training.formats.official import FORMATS, Format, official_name
from training.formats.scale import Scale, scale_for

__all__ = ["FORMATS", "Format", "Formatter", "Scale", "choose_formatter", "official_name", "scale_for"]
