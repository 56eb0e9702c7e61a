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


GIVEN = """
from pathlib import Path
from modeling.allocator import give_freed_memory_back, keep_freed_memory

def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

keep_freed_memory()
before = resident_pages()
blocks = [bytearray(10_000) for _ in range(20_000)]
most = resident_pages()
blocks = blocks[::100]  # what stays stands among what goes
print(give_freed_memory_back(), most - before, resident_pages() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of the C library of Linux")
def test_what_a_start_needed_and_nothing_else_does_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", GIVEN], capture_output=True, text=True, check=True)
    told, most, left = done.stdout.split()
    assert told == "True"
    assert int(most) > 40_000  # pages of 4 kB: 200 MB
    assert int(left) < int(most) / 3
