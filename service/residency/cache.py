"""The directory of resident adapter versions: what a reference means now, and who still uses a slot.

Pure: no tensors, no files, no clock, no threads (one thread, the event loop's, owns it). A reference (`name`,
`name@3`, `name@alias`) is resolved once, at admission, into a *lease*; whatever happens to aliases
afterwards, the lease keeps its version, and a slot is given back only when its version was retired and its
last lease released.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .names import NamePage, Names

CardT = TypeVar("CardT")

DEFAULT_ALIAS = "production"


class UnknownReference(LookupError):  # noqa: N818 - a fact about the directory, not a fault
    """No such task, version or alias; the message says which of the three, and what there is."""


class FailedReference(LookupError):  # noqa: N818
    """The version exists, but could not be loaded; the message says why."""


@dataclass(slots=True, eq=False)
class Resident(Generic[CardT]):
    """One version on the device. `card` is whatever the engine needs to answer with it."""

    task: str
    version: int
    digest: str
    slot: int
    card: CardT
    num_leases: int = 0
    retired: bool = False


@dataclass(slots=True, eq=False)
class Lease(Generic[CardT]):
    """The right to use a resident version until `AdapterCache.release`."""

    resident: Resident[CardT]
    open: bool = True


@dataclass(slots=True)
class _Task(Generic[CardT]):
    aliases: Mapping[str, int] = field(default_factory=dict)
    residents: dict[int, Resident[CardT]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


class AdapterCache(Generic[CardT]):
    """Resident versions by task. `free` is called with a version whose slot nobody needs any more."""

    def __init__(self, free: Callable[[Resident[CardT]], None]) -> None:
        self._free = free
        self._tasks: dict[str, _Task[CardT]] = {}
        self._names = Names()  # of the same tasks
        self._num_residents = self.num_leases = 0

    def __iter__(self) -> Iterator[Resident[CardT]]:
        """Every version that can be acquired."""
        return (resident for task in self._tasks.values() for resident in task.residents.values())

    def __len__(self) -> int:
        return self._num_residents

    def add(self, resident: Resident[CardT]) -> None:
        """Make a loaded version available under its number; a failure recorded for it is forgotten."""
        task = self._task(resident.task)
        assert resident.version not in task.residents, (
            f"{resident.task}@{resident.version} twice; this is a bug"
        )
        task.residents[resident.version] = resident
        self._num_residents += 1
        task.failed.pop(resident.version, None)

    def add_failed(self, task: str, version: int, reason: str) -> None:
        """Record a stored version that could not be loaded."""
        self._task(task).failed[version] = reason

    def set_aliases(self, task: str, aliases: Mapping[str, int]) -> None:
        """Replace all aliases of a task at once; running requests keep what they have."""
        self._task(task).aliases = dict(aliases)

    def retire(self, task: str, version: int) -> None:
        """No new lease on this version; its slot is freed now, or with its last lease."""
        state = self._tasks.get(task)
        if state is None:
            return
        state.failed.pop(version, None)
        resident = state.residents.pop(version, None)
        if resident is not None:
            self._retire(resident)

    def retire_task(self, task: str) -> None:
        """Retire every version of a task and forget its aliases."""
        state = self._tasks.pop(task, None)
        if state is None:
            return
        self._names.remove(task)
        for resident in state.residents.values():
            self._retire(resident)

    def get(self, task: str, version: int) -> Resident[CardT] | None:
        """The resident version, without a lease; None if it is not resident."""
        state = self._tasks.get(task)
        return None if state is None else state.residents.get(version)

    def failure(self, task: str, version: int) -> str | None:
        """Why a version could not be loaded; None if it could, or does not exist."""
        state = self._tasks.get(task)
        return None if state is None else state.failed.get(version)

    def failures(self, task: str) -> frozenset[int]:
        """The versions of a task that cannot be used."""
        state = self._tasks.get(task)
        return frozenset() if state is None else frozenset(state.failed)

    def acquire(self, reference: str) -> Lease[CardT]:
        """Resolve `name`, `name@version` or `name@alias`. Raises UnknownReference or FailedReference."""
        name, at, selector = reference.partition("@")
        state = self._tasks.get(name)
        if state is None or not (state.residents or state.failed):
            raise UnknownReference(self.no_task(name))
        version = _version(name, state, selector if at else None)
        resident = state.residents.get(version)
        if resident is None:
            raise _missing(name, state, version)
        resident.num_leases += 1
        self.num_leases += 1
        return Lease(resident)

    def release(self, lease: Lease[CardT]) -> None:
        """Give a lease back; the last one of a retired version frees its slot."""
        assert lease.open, f"{lease.resident.task}@{lease.resident.version} released twice; this is a bug"
        lease.open = False
        lease.resident.num_leases -= 1
        self.num_leases -= 1
        self._free_if_idle(lease.resident)

    def page(self, after: str, limit: int, part: str) -> NamePage:
        """Names of tasks in order, at most `limit` behind `after`, that have `part` in them."""
        return self._names.page(after, limit, part)

    def no_task(self, name: str) -> str:
        """What to tell who asked for a task that is not there: the nearest name, and where the names are."""
        near = self._names.near(name, self._tasks)
        meant = f"did you mean {near!r}? " if near else ""
        return f"there is no task {name!r}; {meant}GET /v1/tasks (`trunkline tasks`) lists the tasks"

    def _task(self, name: str) -> _Task[CardT]:
        state = self._tasks.get(name)
        if state is None:
            state = self._tasks[name] = _Task()
            self._names.add(name)
        return state

    def _retire(self, resident: Resident[CardT]) -> None:
        self._num_residents -= 1
        resident.retired = True
        self._free_if_idle(resident)

    def _free_if_idle(self, resident: Resident[CardT]) -> None:
        if resident.retired and resident.num_leases == 0:
            self._free(resident)


def _version(name: str, state: _Task[CardT], selector: str | None) -> int:
    """The version that `selector` (None: the default alias) means now; it need not be resident."""
    if selector is not None and selector.isascii() and selector.isdigit() and len(selector) <= 9:
        return int(selector)
    alias = DEFAULT_ALIAS if selector is None else selector
    if alias in state.aliases:
        return state.aliases[alias]
    known = ", ".join(sorted(state.aliases)) or "none"
    raise UnknownReference(f"task {name!r} has no alias {alias!r}; its aliases: {known}")


def _missing(name: str, state: _Task[CardT], version: int) -> LookupError:
    if version in state.failed:
        return FailedReference(f"{name}@{version} could not be loaded: {state.failed[version]}")
    known = ", ".join(str(v) for v in sorted({*state.residents, *state.failed}))
    return UnknownReference(f"task {name!r} has no version {version}; its versions: {known}")
