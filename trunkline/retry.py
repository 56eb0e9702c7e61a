"""When to ask again after a refusal, and after how long. Pure: no clock, no network."""

from __future__ import annotations

from trunkline.calls import Reply
from trunkline.problems import retry_after_s

RETRIED = frozenset({429, 503})  # the server promises that it did nothing
BACKOFF_S = 0.25  # doubled each time, where the server gives no Retry-After
MAX_WAIT_S = 30.0  # a server that asks for more is not waited for: the caller gets the error and decides


def wait_s(reply: Reply, attempt: int, retries: int) -> float | None:
    """Seconds to wait after attempt `attempt` (they count from 0); None: take the answer as it is."""
    if reply.status not in RETRIED or attempt >= retries:
        return None
    asked = retry_after_s(reply.headers)
    wait = BACKOFF_S * 2**attempt if asked is None else asked
    return wait if wait <= MAX_WAIT_S else None
