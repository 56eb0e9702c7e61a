"""Trunkline for people: the HTTP client and the command line.

`from trunkline import Client, AsyncClient` needs httpx alone; names are loaded on first use, so that
`trunkline --help` does not wait for it. Nothing is imported here, not even from the standard library:
`python -m trunkline` runs this file while the current folder still comes first (see `__main__`).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trunkline.answers import Entity, ItemError, Prediction, Pushed, Task, Version
    from trunkline.client import AsyncClient, Client
    from trunkline.errors import (
        Conflict,
        ConnectionFailed,
        Invalid,
        ItemFailed,
        NotFound,
        Overloaded,
        Problem,
        TooLarge,
        TrunklineError,
        Unauthorized,
        Unavailable,
    )

__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Entity",
    "Invalid",
    "ItemError",
    "ItemFailed",
    "NotFound",
    "Overloaded",
    "Prediction",
    "Problem",
    "Pushed",
    "Task",
    "TooLarge",
    "TrunklineError",
    "Unauthorized",
    "Unavailable",
    "Version",
]

HOMES = {
    "trunkline.client": ("AsyncClient", "Client"),
    "trunkline.answers": ("Entity", "ItemError", "Prediction", "Pushed", "Task", "Version"),
}


def __getattr__(name: str) -> object:
    """Load a public name from the file that defines it."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'trunkline' has no attribute {name!r}")
    home = next((home for home, names in HOMES.items() if name in names), "trunkline.errors")
    return getattr(importlib.import_module(home), name)
