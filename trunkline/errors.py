"""Every error that the client raises, in one tree; knows what statuses mean, sends and prints nothing."""

# ruff: noqa: N818  (the short names are part of the interface)

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that was wrong, as the server listed it.

    `field` says where ("head/weight", "inputs[3]"), `got` what was found, `allowed` what would be right,
    `remedy` what to do. Any of them may be empty when the server had nothing to say there.
    """

    field: str = ""
    got: str = ""
    allowed: str = ""
    remedy: str = ""
    message: str = ""

    def __str__(self) -> str:
        if self.message:
            return f"{self.field}: {self.message}" if self.field else self.message
        parts = [f"got {self.got}" if self.got else "", f"allowed: {self.allowed}" if self.allowed else ""]
        text = "; ".join(part for part in parts if part)
        text = ". ".join(part for part in (text, self.remedy) if part)
        return f"{self.field}: {text}" if self.field else text


class TrunklineError(Exception):
    """Base of everything the client raises; also any answer of the server that no class below fits.

    `status` is the HTTP status (None when no answer came), `code` the server's short word for the cause,
    `errors` everything it listed, `request_id` what to look for in its log.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        errors: tuple[Problem, ...] = (),
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.errors = errors
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class Invalid(TrunklineError):
    """The request or the file was understood and refused; `errors` lists every reason (400, 415, 422)."""


class ItemFailed(Invalid):
    """One input of a request failed while its neighbours were answered; raised by `raise_for_error`."""


class Unauthorized(TrunklineError):
    """The token is missing or wrong, or nobody may do this there: a read-only store (401, 403)."""


class NotFound(TrunklineError):
    """No such task, version or alias (404)."""


class Conflict(TrunklineError):
    """The server's state does not allow it, or changed since you looked (409, 412)."""


class TooLarge(TrunklineError):
    """The body is over the server's limit (413)."""


class Overloaded(TrunklineError):
    """The queue is full; `retry_after_s` says how long to wait (429)."""


class Unavailable(TrunklineError):
    """The server is starting, draining, or gave up on this request (502, 503, 504)."""


class ConnectionFailed(TrunklineError):
    """No answer came: nothing listens there, the name is unknown, or the time ran out."""
