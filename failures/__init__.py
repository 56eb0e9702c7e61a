"""The one record of something that is wrong, with which every package lists what it refuses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """Where it is wrong, what was found, what is allowed, what to do about it."""

    field: str
    got: str
    allowed: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: got {self.got}; allowed: {self.allowed}. {self.remedy}"
