"""Every error that `modeling` raises; it knows nothing of files, stores or HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from failures import Failure


class ModelingError(Exception):
    """Base of all errors of this package."""


class BackboneError(ModelingError):
    """A backbone cannot be found, loaded or used as asked."""


class UnknownNameError(ModelingError, KeyError):
    """A method, family or head kind that is not registered; the message lists the known ones."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        self.what, self.name, self.known = what, name, tuple(sorted(known))
        super().__init__(f"unknown {what} {name!r}; known: {', '.join(self.known)}")

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


class MethodError(ModelingError):
    """A method's configuration is not valid."""


class TextError(ModelingError):
    """A text cannot be encoded within the asked number of tokens."""


@contextmanager
def in_a_sentence(sentence: str) -> Iterator[None]:
    """What other packages raise within becomes a BackboneError: `sentence`, with their words in place of {}.

    They read a stranger's files, and have no error in common: pickle, torch, safetensors, tokenizers (which
    raises bare `Exception`). Ours pass, and memory that runs out, which is not the file's fault.
    """
    try:
        yield
    except (BackboneError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's
            raise
        text = " ".join(str(error).split()).rstrip(".")
        text = f"{type(error).__name__}: {text}" if isinstance(error, LookupError) else text
        raise BackboneError(sentence.replace("{}", text[:300])) from error


class AdapterError(ModelingError):
    """An adapter does not fit its backbone or method; `failures` holds every reason, not the first."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = tuple(failures)
        super().__init__("; ".join(str(failure) for failure in self.failures))
