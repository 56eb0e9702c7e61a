"""Origins and prefixes as browsers and proxies write them, and what none of them writes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from service.errors import ConfigurationError
from service.settings import Settings, resolve_token


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", ()),
        (" , ", ()),
        ("*", ("*",)),
        ("https://app.example", ("https://app.example",)),
        ("HTTPS://App.Example/ , http://localhost:3000", ("https://app.example", "http://localhost:3000")),
        ("https://a.example:443,http://a.example:80", ("https://a.example", "http://a.example")),
        ("http://a.example:443", ("http://a.example:443",)),
        ("http://[::1]:8000,capacitor://localhost", ("http://[::1]:8000", "capacitor://localhost")),
        (["https://a.example"], ("https://a.example",)),
    ],
)
def test_origins_are_kept_as_browsers_send_them(
    given: Any, wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings(cors_origins=given).cors_origins == wanted
    if isinstance(given, str):
        monkeypatch.setenv("TRUNKLINE_CORS_ORIGINS", given)
        assert Settings().cors_origins == wanted


@pytest.mark.parametrize(
    "given",
    [
        "app.example",
        "https://app.example/page",
        "null",
        "https://*.example",
        "https://bücher.example",
        "https://",
    ],
)
def test_what_no_browser_sends_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="scheme://host"):
        Settings(cors_origins=given)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", ""),
        ("/", ""),
        ("/trunk", "/trunk"),
        ("trunk/", "/trunk"),
        ("/a/b.c/~d", "/a/b.c/~d"),
        ("/v12", "/v12"),
    ],
)
def test_a_prefix_has_one_slash_before_it(given: str, wanted: str) -> None:
    assert Settings(root_path=given).root_path == wanted


@pytest.mark.parametrize(
    "given", ["https://a.example/x", "/a//b", "/a/../b", "/a b", "/v1", "/live/x", "metrics"]
)
def test_a_prefix_that_is_none_or_means_a_route_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="allowed: a path|a route of the service itself begins"):
        Settings(root_path=given)


def test_every_page_may_call_only_with_a_token() -> None:
    with pytest.raises(ConfigurationError, match="any web page could upload and delete"):
        resolve_token(Settings(cors_origins=("*",)))
    assert resolve_token(Settings(cors_origins=("https://a.example",))) is None
    assert resolve_token(Settings(cors_origins=("*",), token=SecretStr("abcdefgh"))) == "abcdefgh"
