"""What `proof` raises."""

# ruff: noqa: N818 - findings about a file, not faults

from __future__ import annotations

from collections.abc import Sequence

from failures import Failure

MAX_LISTED = 8


class ProofError(Exception):
    """Base of all errors of this package."""


class Refused(ProofError):
    """An adapter that must not be served; `failures` holds every reason."""

    def __init__(self, failures: Sequence[Failure], what: str = "the adapter cannot be served") -> None:
        self.failures = tuple(failures)
        listed = self.failures[:MAX_LISTED]
        more = f" (and {len(self.failures) - len(listed)} more)" if len(self.failures) > len(listed) else ""
        details = "; ".join(f"{one.field}: got {one.got}, allowed: {one.allowed}" for one in listed)
        super().__init__(f"{what}: {details}{more}")


class CheckFailed(ProofError):
    """The check in a process of its own did not come to an end, or refused the file."""
