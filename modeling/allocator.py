"""What the C library does with memory that was freed.

Every pass makes and drops the same tensors of some megabytes. glibc maps such blocks one by one, gives them
back to the system at once and gets them anew, page by page and zeroed.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of <malloc.h>
_NEVER = 2**31 - 1
_AT_ONCE = 64 * 2**20
_SETTINGS = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AT_ONCE))


def keep_freed_memory() -> bool:
    """Have all blocks come from memory that the process keeps; whether this C library can.

    It then stays as large as it once was. For a whole program to decide, so called by programs alone, before
    the first large tensor.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is None:  # not glibc
        return False
    told = [mallopt(option, value) for option, value in _SETTINGS]
    return all(told)


def give_freed_memory_back() -> bool:
    """Give the pages that nothing stands on to the system once; whether this C library can.

    For after a time that needed more than what follows. Settings stay as they are.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    return bool(trim is not None and trim(0))
