"""Names and references: the only client input that ever becomes part of a path."""

from __future__ import annotations

from typing import Any

import pytest

from adapters_store import InvalidName, check_alias, check_task_name
from adapters_store.names import Ref, parse_ref

HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "/etc/passwd",
    "a\x00b",
    "a\n",
    "A",
    "é",
    "\uff11",
    "-rf",
    "_x",
    ".hidden",
    "x" * 65,
    "http://host/x",
    "a b",
    "%2e%2e",
    None,
    3,
    b"a",
]


@pytest.mark.parametrize("name", ["a", "0", "sst2", "a..b", "a-b_c.d", "x" * 64])
def test_allowed_task_names(name: str) -> None:
    assert check_task_name(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_names(name: Any) -> None:
    for check in (check_task_name, check_alias, parse_ref):
        with pytest.raises(InvalidName, match=r"not allowed|not a string"):
            check(name)


@pytest.mark.parametrize("alias", ["1", "007", "12345678901234567890"])
def test_an_alias_is_not_a_number(alias: str) -> None:
    with pytest.raises(InvalidName, match="digits"):
        check_alias(alias)


@pytest.mark.parametrize(
    ("ref", "parsed"),
    [
        ("sst2", Ref("sst2", None, "production")),
        ("sst2@3", Ref("sst2", 3, "")),
        ("sst2@previous", Ref("sst2", None, "previous")),
        ("sst2@v3", Ref("sst2", None, "v3")),
        ("7@8", Ref("7", 8, "")),
    ],
)
def test_references(ref: str, parsed: Ref) -> None:
    assert parse_ref(ref) == parsed


@pytest.mark.parametrize(
    "ref",
    ["sst2@", "@3", "sst2@0", "sst2@03", "sst2@-1", "sst2@3@4", "sst2@../x", "sst2@" + "9" * 400, "a@٣"],
)
def test_refused_references(ref: str) -> None:
    with pytest.raises(InvalidName) as error:
        parse_ref(ref)
    assert len(str(error.value)) < 300
