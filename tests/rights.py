"""Child processes for which the permissions of files count, whoever runs the tests."""

from __future__ import annotations

import ctypes
import os

_DROP_FROM_BOUNDING_SET = 24  # prctl(PR_CAPBSET_DROP)
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


def as_anybody() -> None:
    """`preexec_fn` of a subprocess: root loses the right to pass over permissions; others have none."""
    if os.geteuid() == 0:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
            if prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "the right could not be dropped")
