"""The variables `TRUNKLINE_…`: which of them are settings, and what the others are. Pure but for the source.

Empty ones count as not given (compose writes `${X:-}`), white space around a value does not count, and what
Kubernetes sets for a Service named `trunkline` is no setting.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from .tokens import trimmed

PREFIX = "TRUNKLINE_"
# Of other programs of this project: the client's, the compose file's, the tests'.
ELSEWHERE = frozenset({"TRUNKLINE_URL", "TRUNKLINE_IMAGE", "TRUNKLINE_SHARED_DATA", "TRUNKLINE_SAME_BITS"})

_LINK_NAME = re.compile(
    r"TRUNKLINE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")
_MAX_NAMED = 5


class Environment(PydanticBaseSettingsSource):
    """The settings that variables give, as texts."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Asked for by the base class: the text of one setting, or None."""
        return settings_in(os.environ).get(variable_of(field_name)), field_name, False

    def __call__(self) -> dict[str, Any]:
        """The text of each setting that has one."""
        given = settings_in(os.environ)
        names = self.settings_cls.model_fields
        return {name: given[variable] for name in names if (variable := variable_of(name)) in given}


def variable_of(setting: str) -> str:
    """The variable of a setting."""
    return f"{PREFIX}{setting.upper()}"


def settings_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Name in capitals to value, of the variables that may be settings: neither empty nor a link."""
    ours = {name.upper(): text.strip() for name, text in environ.items() if name.upper().startswith(PREFIX)}
    return {name: text for name, text in ours.items() if text and not _is_link(name, text)}


def remarks(environ: Mapping[str, str], settings: Collection[str]) -> Iterator[str]:
    """What a person should know of them, a sentence a kind. No value is quoted: it may be a secret."""
    ours = {name.upper(): text for name, text in environ.items() if name.upper().startswith(PREFIX)}
    links = sorted((name for name, text in ours.items() if _is_link(name, text.strip())), key=len)
    if links:
        yield (
            f"ignored {_listed(links)}: Kubernetes sets them (service links) for a Service whose name begins "
            "with trunkline, and they are no settings; with enableServiceLinks: false in the pod's spec they "
            "are not set"
        )
    known = {variable_of(name) for name in settings} | ELSEWHERE
    unknown = sorted(ours.keys() - known - set(links))
    if unknown:
        yield f"ignored {_listed([_with_nearest(name, known) for name in unknown])}: no setting is called so"
    if trimmed(token := ours.get("TRUNKLINE_TOKEN", "")) != token:
        yield "TRUNKLINE_TOKEN has white space (such as a newline) around the token, which was cut off"


def _is_link(name: str, text: str) -> bool:
    is_port = name.endswith("_PORT") and _LINK_VALUE.fullmatch(text) is not None
    return is_port or _LINK_NAME.fullmatch(name) is not None


def _with_nearest(name: str, known: Collection[str]) -> str:
    own_parts = [one.removeprefix(PREFIX) for one in known]
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), own_parts, 1)
    return f"{name} (is {PREFIX}{nearest[0]} meant?)" if nearest else name


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{', '.join(names[:_MAX_NAMED])}{more}"
