"""Types of the columns of a file whose parts are seen one after the other. Pure; knows Arrow alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

_EXACT = 2**53
"""Whole numbers beyond it are not all doubles."""


class Kinds:
    """The Arrow type of each column, or None where its values have none in common.

    Whole numbers and numbers with a point have one if all are exact as double; nothing else is converted.
    """

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._large: set[str] = set()

    def add(self, columns: Mapping[str, Any]) -> None:
        """Take the columns of a part; a list holds Python values."""
        for name, values in columns.items():
            kind = self._of(name, values)
            known = self._found.get(name, pa.null())
            self._found[name] = self._both(name, known, kind)

    @property
    def found(self) -> dict[str, Any]:
        """Name -> type, in the order in which they came."""
        return dict(self._found)

    def _of(self, name: str, values: Any) -> Any:
        if not isinstance(values, list):
            return values.type if _is_plain(values.type) else None
        try:
            found = pa.array(values)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return None
        if pa.types.is_int64(found.type) and any(abs(one) > _EXACT for one in values if one is not None):
            self._large.add(name)
        return found.type

    def _both(self, name: str, one: Any, other: Any) -> Any:
        if one is None or other is None:
            return None
        if one.equals(other) or pa.types.is_null(other):
            return one
        if pa.types.is_null(one):
            return other
        numbers = {pa.int64(), pa.float64()}
        return pa.float64() if {one, other} == numbers and name not in self._large else None


def _is_plain(kind: Any) -> bool:
    """Whether a batch of it can stand alone: without dictionaries, at any depth."""
    if pa.types.is_dictionary(kind):
        return False
    return all(_is_plain(kind.field(index).type) for index in range(kind.num_fields))
