"""Every worker of a parallel run has to collect the same names, or none of them runs.

A name made of packed bytes holds the second in which they were packed; one made of an object without a text
of its own holds its address. Both pass alone and fail when two workers start in different seconds.
"""

import re

import pytest

CHANGES = re.compile(r"\\\\x[0-9a-f]{2}| at 0x[0-9a-f]+")


def test_no_name_is_made_of_bytes_or_addresses(request: pytest.FixtureRequest) -> None:
    names = [item.nodeid for item in request.session.items if CHANGES.search(item.nodeid)]
    assert not names, f"give these tests ids that are the same in every process: {names[:5]}"


@pytest.mark.parametrize("name", ["[b'\\x1f']", "[<object object at 0x7f00>]"], ids=["bytes", "address"])
def test_such_names_are_seen(name: str) -> None:
    written = name.encode("unicode_escape").decode()
    assert CHANGES.search(written)
