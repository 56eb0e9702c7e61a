"""The names of all tasks: pages and suggestions as a plain search finds them, at one cost."""

from __future__ import annotations

import difflib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.residency import names as module
from service.residency.names import NEIGHBOURS, NamePage, Names

NAME = st.from_regex(r"[a-c0-1][a-c0-1._-]{0,5}", fullmatch=True)


def names_of(*known: str) -> Names:
    names = Names()
    for name in known:
        names.add(name)
    return names


def all_pages(names: Names, limit: int, part: str) -> list[str]:
    found: list[str] = []
    page = NamePage([], "")
    while page.next is not None:
        page = names.page(page.next, limit, part)
        assert len(page.names) <= limit
        found += page.names
    return found


@given(st.sets(NAME, max_size=30), st.integers(1, 8), st.sampled_from(["", "a", "b1", "._", "zz"]))
@settings(deadline=None)
def test_pages_hold_every_name_once_in_order(known: set[str], limit: int, part: str) -> None:
    names = names_of(*known)
    with pytest.MonkeyPatch.context() as patch:
        for scanned in (1, 3, 1_000):
            patch.setattr(module, "MAX_SCANNED", scanned)
            assert all_pages(names, limit, part) == sorted(name for name in known if part in name)


@given(st.lists(NAME, min_size=1, max_size=12, unique=True), st.data())
def test_what_was_removed_is_not_listed(known: list[str], data: st.DataObject) -> None:
    names = names_of(*known)
    gone = data.draw(st.sets(st.sampled_from(known)))
    for name in gone:
        names.remove(name)
    assert all_pages(names, 5, "") == sorted(set(known) - gone)


def test_a_page_goes_on_behind_a_name_that_is_gone() -> None:
    names = names_of("a", "b", "c", "d")
    assert names.page("", 2, "") == NamePage(["a", "b"], "b")
    names.remove("b")
    names.add("aa")
    assert names.page("b", 2, "") == NamePage(["c", "d"], None)
    assert names.page("d", 2, "") == names.page("zz", 2, "") == NamePage([], None)


def test_a_search_that_found_enough_goes_on_where_it_stopped() -> None:
    names = names_of("a1", "b", "c1", "d", "e1")
    assert names.page("", 2, "1") == NamePage(["a1", "c1"], "c1")
    assert names.page("c1", 2, "1") == NamePage(["e1"], None)


KNOWN = {"intents", "urgency", "sst2", "mood_de", "cola"} | {f"task-{number:05}" for number in range(3_000)}


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("intent", "intents"),
        ("intentss", "intents"),
        ("intents", "intents"),
        ("uregncy", "urgency"),
        ("xst2", "sst2"),
        ("Intents", "intents"),
        (" mood-de ", "mood_de"),
        ("task_00017", "task-00017"),
        ("task-0017", "task-00017"),
        ("intents-2024", "intents"),
        ("qqqqqqqqqq", None),
        ("q" * 300_000, None),
        ("", None),
        ("x", None),
    ],
)
def test_a_slip_of_the_keys_is_found_among_thousands(unknown: str, meant: str | None) -> None:
    names = names_of(*sorted(KNOWN))
    found = names.near(unknown, KNOWN)
    if unknown == "task-0017":  # several names are one letter away
        assert found is not None
        assert difflib.SequenceMatcher(None, found, unknown).ratio() > 0.9
    else:
        assert found == meant


@given(st.sets(NAME, min_size=1, max_size=NEIGHBOURS), NAME)
@settings(deadline=None)
def test_among_few_names_whatever_is_like_one_is_told(known: set[str], unknown: str) -> None:
    """As a search of them all tells it."""
    like = difflib.get_close_matches(unknown, known, n=1)
    found = names_of(*known).near(unknown, known - {unknown})
    assert found is not None or not like


class Counted(list[str]):
    """Counts what is read of it."""

    num_read = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.num_read += len(found) if isinstance(place, slice) else 1
        return found

    def __iter__(self) -> Any:
        raise AssertionError("all names were read")


class CountedSet(set[str]):
    num_asked = 0

    def __contains__(self, name: object) -> bool:
        self.num_asked += 1
        return super().__contains__(name)

    def __iter__(self) -> Any:
        raise AssertionError("all names were read")


@pytest.mark.parametrize("unknown", ["nobody", "task-000000", "n" * 64, "n" * 100_000])
def test_nothing_reads_more_of_a_million_names_than_of_a_thousand(unknown: str) -> None:
    cost = {}
    for number in (1_000, 200_000):
        names = Names()
        names._sorted = read = Counted(f"task-{place:07}" for place in range(number))
        known = CountedSet(f"task-{place:07}" for place in range(number))
        names.near(unknown, known)
        names.page("task-0000500", 10, "")
        page = names.page("", 10, "zz")
        names.add("nobody")
        names.remove("nobody")
        cost[number] = read.num_read - min(number, module.MAX_SCANNED), known.num_asked
        assert page.names == []
    (few_read, few_asked), (many_read, many_asked) = cost.values()
    assert many_read - few_read < 60  # the bisections of 200,000 take eight steps more each
    assert many_asked == few_asked < 6_000
