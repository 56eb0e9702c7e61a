"""Who may call: one bearer token, or nobody but this machine. Pure checks on headers.

Without a token the service listens on loopback only; web pages can reach that too, so requests that a browser
sends for another site (a foreign Origin that is not allowed, or a Host that is a public name pointing here)
are refused.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection, Mapping

from ..errors import CrossSite, Unauthorized
from .origins import is_allowed, is_preflight

OPEN_PATHS = frozenset({"/live", "/ready", "/docs", "/openapi.json"})
_SETTING = "name its origin in the setting cors_origins (--cors-origins, TRUNKLINE_CORS_ORIGINS)"


def check_access(
    path: str,
    headers: Mapping[bytes, bytes],
    token: str | None,
    *,
    method: str = "GET",
    origins: Collection[str] = (),
) -> None:
    """Raise Unauthorized or CrossSite unless the request may go on."""
    if is_preflight(method, headers):  # one of an allowed origin was answered before it came here
        raise CrossSite(
            f"a web page of {_origin_of(headers)} may not call this service; to allow it, {_SETTING}"
        )
    if path in OPEN_PATHS:
        return
    if token is not None:
        _check_token(headers.get(b"authorization", b""), token)
    else:
        _check_site(headers, origins)


def _check_token(authorization: bytes, token: str) -> None:
    scheme, _, given = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not given.strip():
        raise Unauthorized("this service needs a token: send the header Authorization: Bearer <token>")
    if not hmac.compare_digest(given.strip(), token.encode()):
        raise Unauthorized("the token is not the right one")


def _check_site(headers: Mapping[bytes, bytes], origins: Collection[str]) -> None:
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin")
    is_own = origin is None or origin.decode("latin-1").partition("://")[2] == host
    if not is_own and not is_allowed(headers, origins):
        raise CrossSite(
            f"a web page of another origin ({_origin_of(headers)}) may not call a service without a token; "
            f"to allow it, {_SETTING}"
        )
    if not _is_local_name(_without_port(host)):
        raise CrossSite(
            f"the host name {host[:80]!r} is not one of this machine; without a token only localhost, "
            "an address or a name without dots is answered"
        )


def _origin_of(headers: Mapping[bytes, bytes]) -> str:
    return repr(headers.get(b"origin", b"").decode("latin-1")[:80])


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_local_name(name: str) -> bool:
    """Whether no public name server can have given out this name."""
    if "." not in name or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
