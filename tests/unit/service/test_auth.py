"""Who may call: the token, and requests that a browser sends for another site."""

from __future__ import annotations

import pytest

from service.api.auth import OPEN_PATHS, check_access
from service.errors import CrossSite, Unauthorized

TOKEN = "correct-horse-battery"
HOST = {b"host": b"127.0.0.1:8000"}


@pytest.mark.parametrize("given", [b"Bearer correct-horse-battery", b"bearer correct-horse-battery"])
def test_the_right_token_goes_on(given: bytes) -> None:
    check_access("/v1/predict", {b"authorization": given}, TOKEN)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic correct-horse-battery",
        b"correct-horse-battery",
        b"Bearer correct-horse-batter",
        b"Bearer correct-horse-battery2",
        b"Bearer \xff\xfe",
    ],
)
def test_any_other_is_refused(given: bytes) -> None:
    with pytest.raises(Unauthorized) as caught:
        check_access("/v1/predict", {b"authorization": given} if given else {}, TOKEN)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_open_paths_need_nothing(path: str) -> None:
    check_access(path, {}, TOKEN)
    check_access(path, {b"host": b"evil.example.org"}, None)


@pytest.mark.parametrize("path", ["/live/", "/LIVE", "/docs/x", "//live", "/metrics", "/"])
def test_nothing_else_is_open(path: str) -> None:
    with pytest.raises(Unauthorized):
        check_access(path, {}, TOKEN)


@pytest.mark.parametrize(
    "host", [b"localhost:8000", b"127.0.0.1", b"[::1]:8000", b"service:8000", b"app.localhost", b"10.1.2.3:1"]
)
def test_names_of_this_machine_are_answered(host: bytes) -> None:
    check_access("/v1/tasks", {b"host": host}, None)
    check_access("/v1/tasks", {b"host": host, b"origin": b"http://" + host}, None)


@pytest.mark.parametrize(
    "headers",
    [
        HOST | {b"origin": b"http://evil.example.org"},
        HOST | {b"origin": b"null"},
        HOST | {b"origin": b"http://127.0.0.1:9999"},
        {b"host": b"evil.example.org"},
        {b"host": b"evil.example.org:8000", b"origin": b"http://evil.example.org:8000"},
    ],
)
def test_web_pages_of_other_sites_are_refused_without_a_token(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(CrossSite) as caught:
        check_access("/v1/tasks/mood/rollback", headers, None)
    assert "configure a token" not in str(caught.value)
    check_access("/v1/tasks", headers | {b"authorization": f"Bearer {TOKEN}".encode()}, TOKEN)


def test_a_page_of_an_allowed_origin_needs_no_token_and_a_name_of_this_machine() -> None:
    page = {b"origin": b"https://app.example"}
    allowed = frozenset({"https://app.example"})
    check_access("/v1/tasks", HOST | page, None, origins=allowed)
    with pytest.raises(CrossSite, match=r"'https://app.example'.*TRUNKLINE_CORS_ORIGINS"):
        check_access("/v1/tasks", HOST | page, None)
    with pytest.raises(CrossSite, match="host name"):
        check_access("/v1/tasks", {b"host": b"evil.example.org"} | page, None, origins=allowed)
    with pytest.raises(Unauthorized):
        check_access("/v1/tasks", HOST | page, TOKEN, origins=allowed)


@pytest.mark.parametrize("token", [None, TOKEN])
def test_the_question_of_a_page_that_may_not_names_the_setting(token: str | None) -> None:
    asked = HOST | {b"origin": b"https://app.example", b"access-control-request-method": b"POST"}
    with pytest.raises(CrossSite, match="cors_origins"):
        check_access("/v1/predict", asked, token, method="OPTIONS")
