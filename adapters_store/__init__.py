"""The adapter file and the store of its versions: all the names other packages may use.

Importing this package imports no torch; the names that read and write tensors do, on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from adapters_store.errors import (
    AdapterFileError,
    Conflict,
    Corrupt,
    FullStore,
    InvalidName,
    NotFound,
    PreconditionFailed,
    ReadOnlyStore,
    StoreError,
    UnusableStore,
)
from adapters_store.header import UPLOAD_LIMIT_BYTES, FileLimits
from adapters_store.manifest import (
    BackboneRef,
    HeadRef,
    InputRef,
    Manifest,
    MethodRef,
    MetricsRef,
    Probe,
    Provenance,
)
from adapters_store.names import check_alias, check_task_name
from adapters_store.store import AdapterStore, Published
from adapters_store.task_log import TaskState, VersionRecord

if TYPE_CHECKING:
    from adapters_store.adapter_file import (
        AdapterFile,
        read_adapter,
        read_adapter_file,
        write_adapter,
        write_adapter_file,
    )

_NEEDS_TORCH = frozenset(
    {"AdapterFile", "read_adapter", "read_adapter_file", "write_adapter", "write_adapter_file"}
)

__all__ = [
    "UPLOAD_LIMIT_BYTES",
    "AdapterFile",
    "AdapterFileError",
    "AdapterStore",
    "BackboneRef",
    "Conflict",
    "Corrupt",
    "FileLimits",
    "FullStore",
    "HeadRef",
    "InputRef",
    "InvalidName",
    "Manifest",
    "MethodRef",
    "MetricsRef",
    "NotFound",
    "PreconditionFailed",
    "Probe",
    "Provenance",
    "Published",
    "ReadOnlyStore",
    "StoreError",
    "TaskState",
    "UnusableStore",
    "VersionRecord",
    "check_alias",
    "check_task_name",
    "read_adapter",
    "read_adapter_file",
    "write_adapter",
    "write_adapter_file",
]


def __getattr__(name: str) -> object:
    if name in _NEEDS_TORCH:
        return getattr(import_module("adapters_store.adapter_file"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
