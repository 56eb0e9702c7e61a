"""How browsers and proxies name a service and its callers: origins, and the prefix of a path. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

# scheme://host or scheme://host:port, as browsers send it; extensions have schemes of their own
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_USUAL_PORTS = frozenset({("http", ":80"), ("https", ":443")})
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_OWN_SEGMENTS = frozenset({"v1", "live", "ready", "metrics", "docs", "openapi.json"})


def origins_of(given: object) -> tuple[str, ...]:
    """Origins as a list or with commas between, in the form in which browsers send them.

    Raises ValueError for what no browser sends.
    """
    listed = given.split(",") if isinstance(given, str) else given
    if not isinstance(listed, Collection):
        raise ValueError("allowed: origins with commas between")
    return tuple(_origin_of(one) for text in listed if (one := str(text).strip()))


def _origin_of(text: str) -> str:
    if text == "*":
        return text
    match = _ORIGIN.fullmatch(text.lower().removesuffix("/"))
    if match is None:
        raise ValueError(
            f"{text[:80]!r} is not an origin; allowed: scheme://host or scheme://host:port, without a path, "
            "such as https://app.example (a name that is not ASCII in its xn-- form), or * for every page"
        )
    scheme, host, port = match.groups("")
    return f"{scheme}://{host}" + ("" if (scheme, port) in _USUAL_PORTS else port)


def prefix_of(given: object) -> str:
    """The prefix of a proxy, with one slash before it and none behind; "" for none.

    Raises ValueError for what is no path, and for one that the service's own routes begin with.
    """
    path = str(given).strip().strip("/")
    prefix = f"/{path}" if path else ""
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError("allowed: a path of letters, digits and . _ ~ -, such as /trunkline")
    if path.split("/")[0] in _OWN_SEGMENTS:
        raise ValueError(
            f"a route of the service itself begins with /{path.split('/')[0]}; take another prefix"
        )
    return prefix
