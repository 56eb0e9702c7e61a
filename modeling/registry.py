"""A registry filled by discovery: modules register themselves, nobody keeps a list."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from .errors import UnknownNameError


class HasName(Protocol):
    """What says its own name."""

    @property
    def name(self) -> str:
        """The name that users write."""


T = TypeVar("T", bound=HasName)


class Registry(Generic[T]):
    """Names to things, each registered once, in the thing's own file."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._items: dict[str, T] = {}

    def add(self, item: T, *others: str) -> T:
        """Enter a thing under its name and `others`. Raises ValueError for a name taken already."""
        for name in (item.name, *others):
            if name in self._items:
                raise ValueError(f"{self.what} {name!r} is registered twice")
            self._items[name] = item
        return item

    def __getitem__(self, name: str) -> T:
        """The thing called `name`. Raises UnknownNameError, which lists the known names."""
        try:
            return self._items[name]
        except KeyError:
            raise UnknownNameError(self.what, name, self._items) from None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._items))

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> Iterator[tuple[str, T]]:
        """Pairs of name and thing, by name."""
        return iter(sorted(self._items.items()))


def discover(package: str, path: Sequence[str]) -> None:
    """Import every module of `package` found on `path`, so that each registers itself."""
    for module in pkgutil.iter_modules(list(path)):
        importlib.import_module(f"{package}.{module.name}")
