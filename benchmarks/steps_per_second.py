"""Training steps per second: our loop against PEFT's LoRA and AdapterHub's Compacter with their own loops.

The same rows of real text in the same order and batches of the same size, on the same backbone. Ours is
`training.loop.fit`, theirs `transformers`' Trainer as those libraries use it. All take turns, a chunk of
steps at a time, so that a noisy machine treats them alike; the first steps of a chunk warm up. PEFT runs in
this process. AdapterHub's library pins another `transformers`, so it waits in a process of its own until it
is its turn. `--precision` names ours; theirs is float32, and with `--bfloat16` bfloat16 (autocast). Ranks are
equal for LoRA (8, query and value); of Compacter each library has its own bottleneck (ours 24, theirs 12).

    python -m benchmarks.steps_per_second --adapterhub FOLDER/adapterhub/bin/python
    python -m benchmarks.steps_per_second --device cuda --adapterhub "env PYTHONPATH=/tmp/site:. python3"
    python -m benchmarks.steps_per_second --table
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import contest, record, tables
from benchmarks.draws import Case, draw
from benchmarks.peers.problem import Problem, write_rows
from benchmarks.peers.trainer import Clock
from training.loop.prefix import Below
from training.loop.progress import NullProgress

NAME = "steps_per_second"
CASES = (Case("trec", "trec", rows=2000), Case("sst2", "sst2", rows=2000, tests=("validation",)))
LORA, COMPACTER = "lora", "compacter"
RATE = 1e-3  # what is learnt is not looked at
Step = Callable[[Sequence[int]], float]
"""Seconds of a step on rows in this order."""


@dataclass(frozen=True)
class Setting:
    """How long a chunk is and how it is cut into batches; `skip` steps of it warm up."""

    batch_size: int
    steps: int
    skip: int
    bfloat16: bool

    @property
    def rows(self) -> int:
        """Of a chunk."""
        return self.batch_size * self.steps


class Ticking(NullProgress):
    """Tells a clock of the steps of stage two."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._counts = clock, False

    def begin(self, stage: str, total_steps: int) -> None:
        self._counts = stage == "adapter"

    def step(self, loss: float | None) -> None:
        if self._counts:
            self._clock.tick()


class Ours:
    """A method of ours on the train rows of a folder, by our own loop."""

    def __init__(self, method: str, precision: str, folder: Path, backbone: Any, setting: Setting) -> None:
        from training.data.load import load_data
        from training.learning.material import build_method, prepare, settle
        from training.loop.precision import products_of
        from training.settings.config import TrainConfig

        config = TrainConfig(
            data=str(folder), task="case", method=method, lr=RATE, epochs=1, batch_size=setting.batch_size
        )
        data = load_data(config)
        self._hyper = settle(config, data, backbone)
        self._material, _ = prepare(config, self._hyper, data, backbone)
        self._method, self._backbone, self._setting = build_method(config), backbone, setting
        self._products = products_of(precision, backbone.model, backbone.device)
        self._below: Below | None = None

    def __call__(self, rows: Sequence[int]) -> float:
        """Seconds of a step of a new adapter on a chunk of rows."""
        from modeling import Adapter
        from training.loop.fit import StagePlan, fit
        from training.loop.journal import NoJournal
        from training.loop.stages import adapter_learner, room_for

        clock = Clock(self._setting.skip, self._backbone.device.type)
        adapter = Adapter.create(self._backbone, self._method, self._material.spec, seed=0)
        size = self._setting.batch_size
        batches = [list(rows[start : start + size]) for start in range(0, len(rows), size)]
        if self._below is None:  # kept for a whole run, as in `training.run`
            rounded = self._products is not None
            self._below = room_for(self._material, adapter, NullProgress(), rounded=rounded)
        with adapter.attached(self._backbone):
            learner = adapter_learner(
                self._material, adapter, self._hyper, 0, below=self._below, products=self._products
            )
            learner = replace(learner, batches=lambda _: batches)
            fit(StagePlan("adapter", 1, 0.0), learner, Ticking(clock), NoJournal())
        return clock.seconds_per_step


class Peft:
    """PEFT's LoRA with the Trainer of `transformers`, in this process."""

    def __init__(self, problem: Problem, setting: Setting) -> None:
        from benchmarks.peers.trainer import tokenizer_of, with_labels

        self._problem, self._setting = problem, setting
        self._rows = with_labels(problem.train, tokenizer_of(problem), numbers=False)

    def __call__(self, rows: Sequence[int]) -> float:
        from transformers import Trainer

        from benchmarks.peers.peft_lora import model_of
        from benchmarks.peers.trainer import Recipe, timed

        recipe = Recipe(RATE, 1, self._setting.batch_size, bfloat16=self._setting.bfloat16)
        chunk = [self._rows[row] for row in rows]
        model = model_of(self._problem)
        return timed(model, Trainer, self._problem, recipe, self._setting.skip, chunk)


class AdapterHub:
    """AdapterHub's Compacter with its Trainer, in a process that answers a line with a line."""

    def __init__(self, command: str, problem: Problem, setting: Setting, rows: Path) -> None:
        told = {
            "rows": str(rows),
            "num_labels": problem.num_labels,
            "backbone": problem.backbone,
            "device": problem.device,
            "setting": vars(setting),
        }
        self._process = subprocess.Popen(
            [*shlex.split(command), "-m", "benchmarks.peers.adapterhub_steps", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._asked()

    def __call__(self, rows: Sequence[int]) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(list(rows)) + "\n")
        self._process.stdin.flush()
        return float(self._asked())

    def _asked(self) -> str:
        """The next answer. Raises RuntimeError where the process ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"AdapterHub's process ended with status {self._process.wait()}: see above")
        return line

    def close(self) -> None:
        """The end of its input is the end of the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step by loop and turn, and ratios of the same turn."""
    place = contest.place_of(args)
    setting = Setting(args.batch_size, args.steps, args.skip, args.bfloat16)
    drawn = draw(case, place.data, 0)
    problem = drawn.problem(place.folder, place.device, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn.write(folder)
        test = folder / "test.jsonl"
        test.rename(folder / "validation.jsonl")  # so that no train row is held out
        _few_lines(folder / "validation.jsonl", 20)
        backbone = contest.open_backbone(place.backbone, place.device)
        loops: dict[str, Any] = {
            f"{method} {precision}": Ours(method, precision, folder, backbone, setting)
            for method in (LORA, COMPACTER)
            for precision in args.precision
        }
        loops["PEFT lora"] = Peft(problem, setting)
        if place.adapterhub:
            rows = folder / "rows.jsonl"
            write_rows(rows, problem.train)
            loops["AdapterHub compacter"] = AdapterHub(place.adapterhub, problem, setting, rows)
        seconds = take_turns(loops, args.rounds, setting.rows, len(drawn.train))
        for loop in loops.values():
            getattr(loop, "close", lambda: None)()
    return {
        "seconds": seconds,
        "ratios": ratios(seconds),
        "setting": vars(setting),
        "device": place.device,
        "origin": record.origin(),
    }


def _few_lines(path: Path, count: int) -> None:
    """Our loop evaluates at the start and the end of a chunk, outside of what is timed: few rows do."""
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:count]))


def take_turns(loops: dict[str, Step], rounds: int, chunk: int, num_rows: int) -> dict[str, list[float]]:
    """Each round every loop gets the same chunk of rows; the order of the loops turns from round to round."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    names = list(loops)
    for turn in range(rounds):
        rows = [(turn * chunk + index) % num_rows for index in range(chunk)]
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            seconds[name].append(round(loops[name](rows), 6))
            print(f"round {turn + 1}, {name}: {1 / seconds[name][-1]:.2f} steps/s", flush=True)
    return seconds


OPPONENTS = {"PEFT lora": LORA, "AdapterHub compacter": COMPACTER}


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Steps per second of ours over theirs: the median of the rounds' ratios."""
    found = {}
    for theirs, method in OPPONENTS.items():
        for mine, values in seconds.items():
            if theirs in seconds and mine.startswith(f"{method} "):
                pairs = zip(seconds[theirs], values, strict=True)
                found[f"{mine} / {theirs}"] = round(statistics.median(t / m for t, m in pairs), 3)
    return found


def table(results: dict[str, Any]) -> str:
    """Steps per second of every loop, and the ratios."""
    rows = []
    for key, result in results.items():
        speed = {name: 1 / statistics.median(values) for name, values in result["seconds"].items()}
        for name, ratio in result["ratios"].items():
            mine, theirs = name.split(" / ")
            rows.append([key, mine, f"{speed[mine]:.1f}", theirs, f"{speed[theirs]:.1f}", f"{ratio:.2f}"])
    head = ("case", "ours", "steps/s", "theirs", "steps/s", "ratio")
    return tables.table(head, rows)


def main() -> int:
    parser = contest.options(__doc__, CASES, ())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=15, help="steps of a chunk")
    parser.add_argument("--skip", type=int, default=3, help="steps of a chunk that warm up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", nargs="+", default=["float32"], help="of ours; float32 auto bfloat16")
    parser.add_argument("--bfloat16", action="store_true", help="theirs under autocast")
    args = parser.parse_args()
    name = args.name or NAME
    torch.set_num_threads(args.threads)
    if not args.table:
        for case in (case for case in CASES if not args.case or case.name in args.case):
            theirs = "theirs in bfloat16" if args.bfloat16 else "theirs in float32"
            key = f"{case.name}, {args.batch_size} rows a batch, {args.device}, {theirs}"
            record.add(name, key, measure(case, args))
    print(table(record.read(name)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
