"""Errors as problem documents: every class has a status, headers are right, nothing leaks."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

import adapters_store
from failures import Failure
from proof.errors import Refused
from service import errors
from service.api.errors import response_of


def _subclasses(base: type[Exception]) -> set[type[Exception]]:
    return {base, *(deep for child in base.__subclasses__() for deep in _subclasses(child))}


def _made(kind: type[Exception]) -> Exception:
    if issubclass(kind, errors.ItemFailed):
        return kind("message", "internal")
    if issubclass(kind, adapters_store.AdapterFileError | Refused):
        return kind([Failure("a", "b", "c", "d")])
    return kind("message")


def _body(error: Exception) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bytes(response_of(error).body))
    return body


KINDS = [*_subclasses(errors.ServiceError), *_subclasses(adapters_store.StoreError), Refused]


@pytest.mark.parametrize("kind", sorted(KINDS, key=str))
def test_every_error_has_a_status_and_a_code(kind: type[Exception]) -> None:
    response = response_of(_made(kind))
    body = json.loads(bytes(response.body))
    assert response.media_type == "application/problem+json"
    assert 400 <= response.status_code < 600
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:trunkline:problem:{body['code']}"
    assert {"title", "detail", "request_id"} <= set(body)


def test_codes_are_not_used_twice() -> None:
    kinds = _subclasses(errors.ServiceError) - {errors.ServiceError, errors.ItemFailed}
    assert len({kind.code for kind in kinds}) == len(kinds)  # type: ignore[attr-defined]


def test_headers_that_tell_what_to_do() -> None:
    assert response_of(errors.Overloaded("full", 17)).headers["retry-after"] == "17"
    assert response_of(errors.NotReady("loading")).headers["retry-after"] == "1"
    assert response_of(errors.Unauthorized("no")).headers["www-authenticate"] == "Bearer"


def test_every_problem_is_listed() -> None:
    found = [Failure("a", "1", "2", "3"), Failure("b", "4", "5", "6")]
    for error in (Refused(found), errors.InvalidInput("refused", found)):
        assert _body(error)["errors"] == [
            {"field": "a", "got": "1", "allowed": "2", "remedy": "3"},
            {"field": "b", "got": "4", "allowed": "5", "remedy": "6"},
        ]


def test_an_unknown_error_says_nothing_of_its_inside(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    body = _body(ValueError("the text of a user"))
    assert body["code"] == "internal"
    assert body["status"] == 500
    assert "user" not in json.dumps(body)
    assert len(caplog.records) == 1
