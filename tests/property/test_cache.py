"""The directory of residents under random changes: leases keep their version, slots are freed once."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.residency.cache import AdapterCache, FailedReference, Lease, Resident, UnknownReference

TASKS = ["mood", "topic"]
ALIASES = ["production", "previous", "canary"]


class CacheMachine(RuleBasedStateMachine):
    """Compares with plain dictionaries. A card is (task, version); slots are never reused by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.freed: list[int] = []
        self.cache: AdapterCache[tuple[str, int]] = AdapterCache(lambda one: self.freed.append(one.slot))
        self.live: dict[tuple[str, int], int] = {}
        self.failed: set[tuple[str, int]] = set()
        self.aliases: dict[str, dict[str, int]] = {}
        self.leases: list[Lease[tuple[str, int]]] = []
        self.expected: list[tuple[str, int, int]] = []
        self.next_version = self.next_slot = 1

    @rule(task=st.sampled_from(TASKS))
    def add(self, task: str) -> None:
        version, slot = self.next_version, self.next_slot
        self.next_version, self.next_slot = version + 1, slot + 1
        self.cache.add(Resident(task, version, f"sha256:{version}", slot, (task, version)))
        self.live[task, version] = slot

    @rule(task=st.sampled_from(TASKS))
    def add_failed(self, task: str) -> None:
        self.cache.add_failed(task, self.next_version, "broken")
        self.failed.add((task, self.next_version))
        self.next_version += 1

    @precondition(lambda self: self.live)
    @rule(data=st.data(), alias=st.sampled_from(ALIASES))
    def alias(self, data: st.DataObject, alias: str) -> None:
        task, version = data.draw(st.sampled_from(sorted(self.live)))
        aliases = self.aliases.setdefault(task, {})
        aliases[alias] = version
        self.cache.set_aliases(task, aliases)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), times=st.integers(1, 3))
    def acquire_what_there_is(self, data: st.DataObject, times: int) -> None:
        task, version = data.draw(st.sampled_from(sorted(self.live)))
        for _ in range(times):
            self.acquire(task, f"@{version}")

    @precondition(lambda self: self.failed)
    @rule(data=st.data())
    def mend(self, data: st.DataObject) -> None:
        """A version that failed is loaded after all."""
        task, version = data.draw(st.sampled_from(sorted(self.failed)))
        slot, self.next_slot = self.next_slot, self.next_slot + 1
        self.cache.add(Resident(task, version, f"sha256:{version}", slot, (task, version)))
        self.failed.discard((task, version))
        self.live[task, version] = slot

    @rule(
        task=st.sampled_from([*TASKS, "nobody"]),
        selector=st.sampled_from(["", "@production", "@previous", "@canary", "@1", "@2", "@3", "@999", "@"]),
    )
    def acquire(self, task: str, selector: str) -> None:
        wanted = self._resolve(task, selector)
        try:
            lease = self.cache.acquire(task + selector)
        except UnknownReference:
            assert wanted is None or wanted not in self.live | dict.fromkeys(self.failed, 0)
        except FailedReference:
            assert wanted in self.failed
        else:
            assert wanted is not None
            assert lease.resident.card == wanted
            self.leases.append(lease)
            self.expected.append((*wanted, self.live[wanted]))

    def _resolve(self, task: str, selector: str) -> tuple[str, int] | None:
        name = selector[1:] if selector else "production"
        version = int(name) if name.isdigit() else self.aliases.get(task, {}).get(name)
        return None if version is None else (task, version)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.leases) - 1))
        lease = self.leases.pop(index)
        self.expected.pop(index)
        self.cache.release(lease)
        with pytest.raises(AssertionError):
            self.cache.release(lease)

    @precondition(lambda self: self.live or self.failed)
    @rule(data=st.data())
    def retire_what_there_is(self, data: st.DataObject) -> None:
        self._retire(*data.draw(st.sampled_from(sorted([*self.live, *self.failed]))))

    @rule(data=st.data(), task=st.sampled_from(TASKS))
    def retire(self, data: st.DataObject, task: str) -> None:
        self._retire(task, data.draw(st.integers(1, max(1, self.next_version))))

    def _retire(self, task: str, version: int) -> None:
        self.cache.retire(task, version)
        self.live.pop((task, version), None)
        self.failed.discard((task, version))

    @rule(task=st.sampled_from(TASKS))
    def retire_task(self, task: str) -> None:
        self.cache.retire_task(task)
        self.live = {key: slot for key, slot in self.live.items() if key[0] != task}
        self.failed = {key for key in self.failed if key[0] != task}
        self.aliases.pop(task, None)

    @invariant()
    def leases_keep_what_they_had(self) -> None:
        for lease, (task, version, slot) in zip(self.leases, self.expected, strict=True):
            resident = lease.resident
            assert (resident.task, resident.version, resident.slot) == (task, version, slot)
            assert slot not in self.freed, "a slot with a lease was freed"

    @invariant()
    def slots_are_freed_once_and_as_soon_as_possible(self) -> None:
        held = {slot for _, _, slot in self.expected} | set(self.live.values())
        assert sorted(self.freed) == sorted(set(range(1, self.next_slot)) - held)

    @invariant()
    def listing_agrees(self) -> None:
        assert {(one.task, one.version) for one in self.cache} == set(self.live)
        assert len(self.cache) == len(self.live)
        assert self.cache.num_leases == len(self.leases)
        for version in range(1, self.next_version):
            for task in TASKS:
                found = self.cache.failure(task, version)
                assert found == ("broken" if (task, version) in self.failed else None)
                resident = self.cache.get(task, version)
                assert (resident.slot if resident else None) == self.live.get((task, version))


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


def test_a_slot_is_freed_with_the_last_lease_of_a_retired_version() -> None:
    freed: list[int] = []
    cache: AdapterCache[None] = AdapterCache(lambda one: freed.append(one.slot))
    cache.add(Resident("mood", 1, "sha256:0", 7, None))
    leases = [cache.acquire("mood@1") for _ in range(2)]
    cache.release(leases[0])
    assert freed == []
    cache.retire("mood", 1)
    assert (freed, cache.num_leases, len(cache)) == ([], 1, 0)
    cache.release(leases[1])
    assert (freed, cache.num_leases) == ([7], 0)
    with pytest.raises(AssertionError, match="released twice"):
        cache.release(leases[1])
    assert freed == [7]


def test_a_failure_is_forgotten_with_its_version_and_when_it_is_mended() -> None:
    cache: AdapterCache[None] = AdapterCache(lambda one: None)
    for version in (1, 2):
        cache.add_failed("mood", version, "broken")
    cache.retire("mood", 1)
    cache.add(Resident("mood", 2, "sha256:0", 1, None))
    assert [cache.failure("mood", version) for version in (1, 2)] == [None, None]
    assert cache.acquire("mood@2").resident.slot == 1
    with pytest.raises(UnknownReference, match="its versions: 2"):
        cache.acquire("mood@1")


def test_aliases_are_those_of_the_moment_they_were_set() -> None:
    cache: AdapterCache[None] = AdapterCache(lambda one: None)
    for version in (1, 2):
        cache.add(Resident("mood", version, "sha256:0", version, None))
    aliases = {"production": 1}
    cache.set_aliases("mood", aliases)
    aliases["production"] = 2
    assert cache.acquire("mood").resident.version == 1
    cache.set_aliases("mood", {"canary": 2})
    with pytest.raises(UnknownReference, match="no alias 'production'; its aliases: canary"):
        cache.acquire("mood")


def test_what_was_retired_with_its_task_is_freed_when_it_is_idle() -> None:
    freed: list[int] = []
    cache: AdapterCache[None] = AdapterCache(lambda one: freed.append(one.slot))
    for version in (1, 2):
        cache.add(Resident("mood", version, "sha256:0", version, None))
    cache.set_aliases("mood", {"production": 2})
    lease = cache.acquire("mood")
    cache.retire_task("mood")
    assert freed == [1]
    with pytest.raises(UnknownReference, match="no task 'mood'"):
        cache.acquire("mood@2")
    cache.release(lease)
    assert freed == [1, 2]


def test_messages_say_what_there_is() -> None:
    cache: AdapterCache[None] = AdapterCache(lambda one: None)
    cache.add(Resident("mood", 3, "sha256:0", 1, None))
    cache.set_aliases("mood", {"production": 3})
    cache.add_failed("mood", 2, "NaN in head/weight")
    with pytest.raises(UnknownReference, match="no task 'moods'"):
        cache.acquire("moods")
    with pytest.raises(UnknownReference, match="no version 9; its versions: 2, 3"):
        cache.acquire("mood@9")
    with pytest.raises(UnknownReference, match="no alias 'canary'; its aliases: production"):
        cache.acquire("mood@canary")
    with pytest.raises(FailedReference, match="mood@2 could not be loaded: NaN in head/weight"):
        cache.acquire("mood@2")
    assert cache.get("mood", 3) is not None
    assert cache.get("nobody", 3) is None
    assert cache.failure("nobody", 1) is None
    cache.retire("nobody", 1)
    cache.retire_task("nobody")


def test_references_are_never_parsed_into_something_else() -> None:
    cache: AdapterCache[None] = AdapterCache(lambda one: None)
    cache.add(Resident("mood", 1, "sha256:0", 1, None))
    for reference in (
        "../mood",
        "mood@1@1",
        "mood@-1",
        "mood@1.0",
        "mood@²",
        "mood@1 ",
        "",
        "@",
        "@1",
        "MOOD",
    ):
        with pytest.raises(UnknownReference):
            cache.acquire(reference)
