"""Every error that the service raises for a caller, with its HTTP status, which `api/errors.py` answers."""

# ruff: noqa: N818 - they are the words of the interface, and each ends up as a code in an answer

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from failures import Failure


@dataclass(frozen=True, slots=True)
class ItemCode:
    """Why one input of a request has no answer, or one task of several no result; docs/api.md reads this.

    A single input that fails is the caller's fault (422) or not (500).
    """

    meaning: str
    of_input: bool = True


ITEM_CODES: Mapping[str, ItemCode] = {
    "invalid_item": ItemCode(
        "not a text, and not an object with `text` and perhaps `text_pair` or `choices`; "
        "or one that holds half of a character (a lone surrogate)"
    ),
    "invalid_choices": ItemCode("`choices` are not 2 to 100 different texts"),
    "too_long": ItemCode(
        "more tokens than the task takes, without `truncate`; or more characters than allowed"
    ),
    "text_pair_required": ItemCode("the task is about pairs, and there is no `text_pair`"),
    "text_pair_not_allowed": ItemCode("the task is about single texts, and there is a `text_pair`"),
    "choices_required": ItemCode("the task chooses, and there are no `choices`"),
    "choices_not_allowed": ItemCode("the task does not choose, and there are `choices`"),
    "non_finite": ItemCode("the model's output is not a number; it is withheld"),
    "out_of_memory": ItemCode("the device had no room for this input, even alone", of_input=False),
    "internal": ItemCode("the pass failed for a reason of the service's; its log says why", of_input=False),
    "unknown_task": ItemCode("one of several `tasks` is not there (stands for the whole task)"),
    "adapter_unavailable": ItemCode(
        "one of several `tasks` could not be loaded (stands for the whole task)", of_input=False
    ),
}


class ServiceError(Exception):
    """Base of all errors of this package. `code` is the stable word a program may rely on."""

    status, code, title = 500, "internal", "Internal error"

    def __init_subclass__(cls, status: int = status, code: str = code, title: str = title) -> None:
        cls.status, cls.code, cls.title = status, code, title


class MalformedRequest(ServiceError, status=400, code="malformed", title="Malformed request"):
    """The bytes are not what they claim to be: not JSON, not a valid header."""


class Unauthorized(ServiceError, status=401, code="unauthorized", title="Not authorised"):
    """No token, or a wrong one."""


class CrossSite(ServiceError, status=403, code="cross_site", title="Request of another site"):
    """A web page of another origin calls a service that has no token."""


class InvalidInput(ServiceError, status=422, code="invalid_input", title="Invalid input"):
    """Readable, but impossible: wrong fields, too many items, an input that the task cannot take."""

    def __init__(self, message: str, failures: Sequence[Failure] = (), *, code: str | None = None) -> None:
        super().__init__(message)
        self.failures = tuple(failures)
        self.code = code or self.code


class TooLarge(ServiceError, status=413, code="too_large", title="Body too large"):
    """A body above its limit."""


class UnsupportedMedia(
    ServiceError, status=415, code="unsupported_media_type", title="Unsupported content type"
):
    """A body of another content type, or packed in a way that is not understood."""

    def __init__(self, message: str, *, accept_encoding: str | None = None) -> None:
        super().__init__(message)
        self.accept_encoding = accept_encoding


class UnknownTask(ServiceError, status=404, code="unknown_task", title="Unknown task"):
    """No such task, version or alias: never answered by anything else."""


class AdapterUnavailable(ServiceError, status=503, code="adapter_unavailable", title="Adapter not available"):
    """The version exists, but could not be loaded when the service started, or was withdrawn."""


class RegistryFull(ServiceError, status=507, code="registry_full", title="Registry full"):
    """As many adapters are resident as the settings allow."""


class Overloaded(ServiceError, status=429, code="overloaded", title="Too many requests"):
    """The queue is full; come back after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(ServiceError, status=503, code="not_ready", title="Not ready"):
    """The backbone or the stored adapters are still loading, or loading them failed."""


class Draining(ServiceError, status=503, code="draining", title="Stopping"):
    """The service is about to stop: what it has accepted it finishes, nothing more is accepted."""


class ItemFailed(ServiceError):
    """The only input of a request could not be answered for a reason of ours (memory, a bug)."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigurationError(ServiceError):
    """The settings contradict each other or are unsafe: the service does not start."""
