"""Memory that a pass has freed is there for the next one, without the system's part in it."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from modeling.allocator import keep_freed_memory

told = keep_freed_memory() if {kept} else None

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones(5 * 2**20)  # more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(told, faults())
"""


def _run(kept: bool) -> tuple[str, int]:
    program = FAULTS.format(kept=kept)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told, count = done.stdout.split()
    return told, int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of the C library of Linux")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    told, few = _run(kept=True)
    _, many = _run(kept=False)
    assert told == "True"
    assert few < 1000  # of 50 blocks of 10,240 pages
    assert many > 10 * max(few, 1)
