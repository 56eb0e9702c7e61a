"""Runs the table: each mutation alone, where its tests must fail, in a copy of tracked files and kernels."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from tests.architecture.sources import ROOT, name_of, repository_files
from tests.mutants.table import Mutation

PASSED, FAILED, BROKEN = 0, 1, 2  # pytest's own; BROKEN: a file could not be imported
_TIMED_OUT = -1
_OPTIONS = ("-p", "no:cacheprovider", "--timeout", "120", "--hypothesis-profile", "unshrunk")
_WORDS = {PASSED: "SURVIVED", FAILED: "killed", BROKEN: "killed", _TIMED_OUT: "killed"}
_MEMORY = 10 << 30  # bytes of addresses: a fault that takes memory without end fails, not the machine
_QUIET = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation, in a word or a sentence; `killed` is what it should be."""

    name: str
    word: str

    @property
    def killed(self) -> bool:
        return self.word == "killed"


class Workshop:
    """Copies of the repository, one for each job; what runs there has one for itself, and `say` is told."""

    def __init__(self, folder: Path, jobs: int, say: Callable[[str], None]) -> None:
        self._say = say
        self._idle: SimpleQueue[Path] = SimpleQueue()
        self._limits_s: dict[tuple[str, ...], float] = {}
        for number in range(jobs):
            copy = folder / f"copy-{number}"
            # Built libraries are not tracked, and what runs on them is mutated, too.
            for path in (*repository_files(), *(ROOT / "modeling/kernels").glob("*.so")):
                target = copy / name_of(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
            self._idle.put(copy)

    def passes(self, tests: tuple[str, ...]) -> bool:
        """Whether tests pass without a mutation; sets the time that they may take with one."""
        with self._copy() as root:
            status, seconds = _pytest(root, tests, 600.0)
        self._limits_s[tests] = 60 + 6 * seconds
        word = "passes" if status == PASSED else "FAILS"
        self._say(f"{word} unmutated {seconds:6.1f} s  {' '.join(tests)}")
        return status == PASSED

    def outcome(self, mutation: Mutation) -> Outcome:
        """What becomes of a mutation under its tests."""
        with self._copy() as root:
            path = root / mutation.file
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
            try:
                status, seconds = _pytest(root, mutation.tests, self._limits_s[mutation.tests])
            finally:
                path.write_text(text, encoding="utf-8")
        found = Outcome(mutation.name, _WORDS.get(status, f"pytest ended with {status}"))
        self._say(f"{found.word:10} {seconds:6.1f} s  {found.name}")
        return found

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        path = self._idle.get()
        try:
            yield path
        finally:
            self._idle.put(path)


def occurrences(mutation: Mutation, root: Path = ROOT) -> int:
    """How often the old text stands in its file; a mutation is sound if once."""
    path = root / mutation.file
    return path.read_text(encoding="utf-8").count(mutation.old) if path.is_file() else 0


def run_table(mutations: Sequence[Mutation], jobs: int, say: Callable[[str], None]) -> bool:
    """All of them; true if every one was killed. `say` is told of each as it ends, and of all at the end."""
    stale = [one.name for one in mutations if occurrences(one) != 1]
    if stale:
        say(f"stale: the old text of {', '.join(stale)} does not stand exactly once in its file")
        return False
    with TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        workshop = Workshop(Path(folder), jobs, say)
        try:
            if not all(list(pool.map(workshop.passes, dict.fromkeys(one.tests for one in mutations)))):
                say("what fails without a mutation proves nothing: mend that first")
                return False
            outcomes = list(pool.map(workshop.outcome, mutations))
        except KeyboardInterrupt:  # those under way end by themselves
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return _report(outcomes, mutations, say)


def _report(outcomes: Sequence[Outcome], mutations: Sequence[Mutation], say: Callable[[str], None]) -> bool:
    left = [(one, m) for one, m in zip(outcomes, mutations, strict=True) if not one.killed]
    for outcome, mutation in left:
        say(f"{outcome.word}: {mutation.name} ({mutation.file}: {mutation.old!r} -> {mutation.new!r})")
    say(f"{len(outcomes) - len(left)} of {len(outcomes)} killed")
    return not left


def _pytest(root: Path, tests: Sequence[str], limit_s: float) -> tuple[int, float]:
    """Exit status and seconds; a run that hangs is ended with all it started."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", *_OPTIONS, *tests]
    # No bytecode: a mutation may keep a file's size, and its time in whole seconds.
    environment = {"TRUNKLINE_SHARED_DATA": str(ROOT.parent / "shared" / "data"), **os.environ, **_QUIET}
    environment |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    started_s = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if sys.platform == "linux":  # others cannot limit a process that runs
        resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        status = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        status = _TIMED_OUT
    return status, time.perf_counter() - started_s
