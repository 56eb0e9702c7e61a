"""Child processes for which permissions of files count, whoever runs the tests: `[*ANYBODY, *command]`."""

from __future__ import annotations

import ctypes
import os
import sys

ANYBODY = (sys.executable, __file__)

_DROP_FROM_BOUNDING_SET = 24  # prctl(PR_CAPBSET_DROP)
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2

if __name__ == "__main__":  # root loses the right to pass over permissions; others have none
    if os.geteuid() == 0:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
            if prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0) != 0:
                sys.exit(f"the right cannot be dropped: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[1], sys.argv[1:])
