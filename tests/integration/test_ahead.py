"""A process forked ahead checks files as a fresh one does, and knows nothing of what came after the fork.

Each case is a program of its own: the test runner has threads, beside which nothing is forked.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from modeling import Backbone
from tests.integration.world import file_of

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are of Linux alone"),
]

HEAD = """
import multiprocessing, sys, threading
from pathlib import Path
import torch
from proof import ahead
from proof.errors import CheckFailed
from proof.fresh import check_in_fresh_process

good, bad, backbone = map(Path, sys.argv[1:])

def refusal(check, file, folder):
    try:
        return check(file, str(folder))
    except CheckFailed as error:
        return str(error)
"""

SAME = """
with ahead.checker() as check:
    assert check(good, str(backbone)) == check_in_fresh_process(good, str(backbone))
    assert "allowed:" in refusal(check, bad, backbone)
    assert "No such file" in refusal(check, bad.with_name("nothing"), backbone)
    assert "cannot be loaded" in refusal(check, good, bad)
    assert check(good, str(backbone)).task == "mood"
    assert len(multiprocessing.active_children()) == 1
assert not multiprocessing.active_children()
"""

BELIEF = """
with ahead.checker() as check:
    ahead.report_or_reason = lambda *_: "whatever the writer believes"
    torch.set_default_dtype(torch.float64)
    assert check(good, str(backbone)).task == "mood"
"""

AFTER_WORK = """
torch.set_num_threads(4)
torch.rand(600, 600) @ torch.rand(600, 600)  # a pool of threads that no fork takes along
with ahead.checker() as check:
    assert check(good, str(backbone)).task == "mood"
"""

KILLED = """
with ahead.checker() as check:
    (child,) = multiprocessing.active_children()
    child.kill()
    child.join()
    assert check(good, str(backbone)).task == "mood"
"""

THREADS = """
stop = threading.Event()
other = threading.Thread(target=stop.wait)
other.start()
with ahead.checker() as check:
    assert check is check_in_fresh_process
stop.set()
other.join()
"""


ENDS_AT_ONCE = """
import signal

def as_the_command_line_does(*_):
    raise SystemExit("the handler of the one that forked")

signal.signal(signal.SIGTERM, as_the_command_line_does)
for _ in range(20):
    with ahead.checker():
        pass
assert signal.getsignal(signal.SIGTERM) is as_the_command_line_does
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(SAME, id="same reports and refusals"),
        pytest.param(BELIEF, id="nothing that came after the fork"),
        pytest.param(AFTER_WORK, id="after torch has worked"),
        pytest.param(KILLED, id="killed, and replaced"),
        pytest.param(THREADS, id="not beside another thread"),
        pytest.param(ENDS_AT_ONCE, id="ended before it has begun"),
    ],
)
def test_a_process_forked_ahead(
    backbone_folder: Path, backbone: Backbone, tmp_path: Path, program: str
) -> None:
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    good.write_bytes(file_of(backbone, "mood"))
    bad.write_bytes(good.read_bytes()[:-7])
    command = [sys.executable, "-c", HEAD + program, str(good), str(bad), str(backbone_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_whoever_asks_may_be_killed(tmp_path: Path) -> None:
    program = (
        "import multiprocessing, os, signal\nfrom proof import ahead\n"
        "with ahead.checker():\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        pid = int(asking.stdout.readline())
        asking.stdout.read()  # to the end: the child holds it open for as long as it lives
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
