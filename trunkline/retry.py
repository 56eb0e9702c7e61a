"""When to ask again after a refusal, and how long a server is waited for. No network."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from trunkline.calls import Reply
from trunkline.errors import Unavailable
from trunkline.problems import retry_after_s

RETRIED = frozenset({429, 503})  # the server promises that it did nothing
BACKOFF_S = 0.25  # doubled each time, where the server gives no Retry-After
MIN_LOOK_S = 0.1
MAX_WAIT_S = 30.0  # a server that asks for more is not waited for: the caller gets the error and decides

OnWait: TypeAlias = Callable[[str], None]


class Waiting:
    """For a server that is not ready: until when, and what was told of it."""

    def __init__(self, url: str, timeout_s: float, on_wait: OnWait | None) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._on_wait = on_wait or (lambda _: None)
        self._told = ""

    def left_s(self) -> float:
        """For one more look, which is due at the very end as well."""
        return max(MIN_LOOK_S, self._deadline_s - time.monotonic())

    def go_on(self, reason: str) -> None:
        """Raises Unavailable once the time is up."""
        if time.monotonic() >= self._deadline_s:
            raise Unavailable(f"{self._url} was not ready within {self._timeout_s:g} s: {reason}")
        if reason != self._told:
            self._told = reason
            self._on_wait(reason)


def wait_s(reply: Reply, attempt: int, retries: int) -> float | None:
    """Seconds to wait after attempt `attempt` (they count from 0); None: take the answer as it is."""
    if reply.status not in RETRIED or attempt >= retries:
        return None
    asked = retry_after_s(reply.headers)
    wait = BACKOFF_S * 2**attempt if asked is None else asked
    return wait if wait <= MAX_WAIT_S else None
