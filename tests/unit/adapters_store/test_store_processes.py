"""Several processes on one store, and processes that are killed in the middle of it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from adapters_store import AdapterStore
from adapters_store.blobs import digest_of

REPOSITORY = Path(__file__).resolve().parents[3]

PUBLISH_MANY = """
import sys
from pathlib import Path
from adapters_store.store import AdapterStore
root, worker, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = AdapterStore(root)
print("ready", flush=True)
sys.stdin.readline()
for index in range(count):
    print(store.publish("shared", f"{worker}-{index}".encode()).version, flush=True)
    store.set_alias("shared", f"worker-{worker}", 1)
"""

# Prints an operation only after it has returned: what is printed must have survived the kill.
CHANGE_FOREVER = """
import sys
from pathlib import Path
from adapters_store.store import AdapterStore
store, start = AdapterStore(Path(sys.argv[1])), int(sys.argv[2])
for index in range(start, start + 100_000):
    data = str(index % 7).encode() + b"x" * 5_000
    state = store.publish(f"task-{index % 3}", data).state
    print(state.task, state.revision, flush=True)
    if index % 5 == 4:
        state = store.rollback(state.task) if "previous" in state.aliases else state
        print(state.task, state.revision, flush=True)
    for version in [r.version for r in state.versions if r.version not in state.aliases.values()]:
        store.delete_version(state.task, version)
"""


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True)


def test_processes_that_publish_at_once_lose_nothing(tmp_path: Path) -> None:
    num_workers, count = 4, 15
    workers = [started(PUBLISH_MANY, tmp_path, worker, count) for worker in range(num_workers)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    answers = [worker.communicate("go\n", timeout=60)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * num_workers
    store = AdapterStore(tmp_path)
    state = store.task("shared")
    assert sorted(int(number) for answer in answers for number in answer) == list(range(1, 61))
    assert [record.version for record in state.versions] == list(range(1, 61))
    assert state.revision == num_workers * count + num_workers
    for number, answer in enumerate(answers):
        for index, version in enumerate(answer):
            assert store.read("shared", int(version)) == f"{number}-{index}".encode()
    names = [path.name for path in (tmp_path / "tasks" / "shared").iterdir()]
    assert sorted(names) == [f"{revision:010d}.json" for revision in range(1, state.revision + 1)]


def test_a_store_survives_being_killed_again_and_again(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for kill in range(6):
        worker = started(CHANGE_FOREVER, tmp_path, kill * 1_000)
        assert worker.stdout is not None
        first = worker.stdout.readline()
        time.sleep(0.02 + 0.013 * kill)
        worker.kill()
        for line in (first + worker.communicate(timeout=60)[0]).splitlines():
            words = line.split()
            if len(words) == 2 and words[1].isdigit():
                acknowledged[words[0]] = max(int(words[1]), acknowledged.get(words[0], 0))
        check_reopened(tmp_path, acknowledged)


def check_reopened(root: Path, acknowledged: dict[str, int]) -> None:
    store = AdapterStore(root)
    assert store.damaged() == {}
    used = set()
    for state in store.tasks():
        for record in state.versions:
            data = store.read(state.task, record.version)
            assert digest_of(data) == record.digest
            used.add(f"{record.digest.replace(':', '-')}.safetensors")
    assert {path.name for path in (root / "adapters").iterdir()} == used
    assert acknowledged
    assert all(store.task(task).revision >= revision for task, revision in acknowledged.items())
