"""When to ask again after a refusal, and after how long. Pure: no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.calls import Reply
from trunkline.problems import retry_after_s

RETRIED = frozenset({429, 503})  # the server promises that it did nothing


@dataclass(frozen=True)
class RetryPolicy:
    """Up to `retries` further attempts after 429 and 503.

    The wait is the server's Retry-After when it gives one, else `backoff_s` doubled each time. A server that
    asks for more than `max_wait_s` is not waited for: the caller gets the error and decides.
    """

    retries: int = 3
    backoff_s: float = 0.25
    max_wait_s: float = 30.0

    def wait_s(self, attempt: int, reply: Reply) -> float | None:
        """Seconds to wait after attempt `attempt` (they count from 0); None: take the answer as it is."""
        if reply.status not in RETRIED or attempt >= self.retries:
            return None
        asked = retry_after_s(reply.headers)
        wait = self.backoff_s * 2**attempt if asked is None else asked
        return wait if wait <= self.max_wait_s else None
