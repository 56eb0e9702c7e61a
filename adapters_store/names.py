"""Names a client may send: tasks, aliases and references. Nothing else ever becomes part of a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adapters_store.errors import InvalidName, show

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
PRODUCTION, PREVIOUS = "production", "previous"

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_FORM = "1 to 64 characters of a-z, 0-9, '.', '_' and '-', starting with a letter or a digit"


@dataclass(frozen=True, slots=True)
class Ref:
    """A parsed reference: `version` is set for `name@3`, otherwise `alias` is what to look up."""

    task: str
    version: int | None
    alias: str


def is_name(name: object) -> bool:
    """Whether `name` has the form of a task name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def check_task_name(name: str) -> str:
    """Returns `name`; raises InvalidName when it is not of the fixed form."""
    if not is_name(name):
        raise InvalidName(f"task name {show(name)} is not allowed: use {_FORM}")
    return name


def check_alias(name: str) -> str:
    """Returns `name`; raises InvalidName when it is not of the form, or a number (`name@3` is a version)."""
    if not is_name(name) or name.isdigit():
        raise InvalidName(f"alias {show(name)} is not allowed: use {_FORM}, and not digits alone")
    return name


def parse_ref(ref: str) -> Ref:
    """Parses `name`, `name@3` or `name@alias`; a bare name means its alias `production`.

    Raises InvalidName.
    """
    if not isinstance(ref, str):
        raise InvalidName(f"reference {show(ref)} is not a string: use name, name@3 or name@alias")
    task, at, selector = ref.partition("@")
    check_task_name(task)
    if not at:
        return Ref(task, None, PRODUCTION)
    if _VERSION.fullmatch(selector):
        return Ref(task, int(selector), "")
    return Ref(task, None, check_alias(selector))
