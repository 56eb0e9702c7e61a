"""Runs the cells of the research scripts in several processes, each with a backbone of its own; resumable.

Cells that share a task and a seed form a group and are run by one process, which prepares the data once. A
cell is kept in the result file as soon as it is done, and is not run again at the same settings. A cell that
fails is told and does not stop the others.
"""

import argparse
import importlib
import multiprocessing
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks import record, tables
from benchmarks.research_bench import Given
from modeling import Backbone, load_backbone
from training.loop.device import pick_device


@dataclass(frozen=True)
class Asked:
    """What is to be run: on what, for which tasks and seeds, until when, into which files."""

    given: Given
    seeds: int
    tasks: tuple[str, ...] | None
    until: float
    prefix: str


@dataclass(frozen=True)
class Group:
    """Cells of one module that share their preparation, by their keys; `steps` is how long they train."""

    module: str
    keys: tuple[str, ...]
    steps: float


def arguments(about: str | None, tasks: Collection[str]) -> argparse.ArgumentParser:
    """What every research script takes."""
    parser = tables.options(about, tasks, timed=True)
    parser.add_argument("--backbone", default="minilm", help="minilm, or a model directory")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--rows", type=int, default=1_500, help="of each train file")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="0 to N - 1")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--prefix", default="", help="of the result files' names, for trials")
    return parser


def asked(args: argparse.Namespace) -> Asked:
    """The arguments, with a deadline."""
    device = pick_device(args.device)
    given = Given(args.data, args.backbone, device, args.rows, args.epochs)
    tasks = tuple(args.task) if args.task else None
    return Asked(given, args.seeds, tasks, time.time() + 60 * args.minutes, args.prefix)


def main(module: ModuleType, about: str | None) -> int:
    """Run what one script lacks, then print its tables."""
    args = arguments(about, module.TASKS).parse_args()
    failed = 0 if args.table else work(asked(args), [module], args.workers)
    print(module.report(record.read(args.prefix + module.NAME)))
    return int(failed > 0)


def work(wanted: Asked, modules: Sequence[ModuleType], workers: int) -> int:
    """Run what the result files lack, the longest first; returns how many cells failed."""
    groups = [group for module in modules for group in lacking(module, wanted)]
    groups.sort(key=lambda group: -group.steps)
    print(f"{sum(len(g.keys) for g in groups)} cells in {len(groups)} groups", flush=True)
    if workers == 1 or len(groups) < 2:
        _open(wanted)
        return sum(map(_run, groups))
    with multiprocessing.get_context("spawn").Pool(workers, _open, (wanted,)) as pool:
        return sum(pool.imap_unordered(_run, groups))


def lacking(module: ModuleType, wanted: Asked) -> list[Group]:
    """The module's groups without the cells that are there at these settings."""
    found = record.read(wanted.prefix + module.NAME)
    name = module.__spec__.name if module.__spec__ else module.__name__
    left = []
    for keys, steps in module.groups(wanted.given, range(wanted.seeds), wanted.tasks):
        own = tuple(key for key in keys if found.get(key, {}).get("settings") != wanted.given.settings)
        if own:
            left.append(Group(name, own, steps * len(own) / len(keys)))
    return left


_WORKER: dict[str, Any] = {}  # of this process: what is asked, and the backbone once it is needed


def _open(wanted: Asked) -> None:
    torch.set_num_threads(1)
    _WORKER.update(wanted=wanted)


def _backbone() -> Backbone:
    if "backbone" not in _WORKER:
        given: Given = _WORKER["wanted"].given
        _WORKER["backbone"] = load_backbone(given.backbone, device=given.device)
    backbone: Backbone = _WORKER["backbone"]
    return backbone


def _run(group: Group) -> int:
    """The cells of one group, each recorded as it is done; returns how many failed."""
    wanted: Asked = _WORKER["wanted"]
    module = importlib.import_module(group.module)
    cells: Iterator[tuple[str, Callable[[], dict[str, Any]]]]
    failed = 0
    try:
        if time.time() > wanted.until:
            return 0
        cells = module.cells(_backbone(), wanted.given, group.keys)
        for key, compute in cells:
            if time.time() > wanted.until:
                print("out of time; run again to go on", flush=True)
                return failed
            failed += _cell(wanted, module, key, compute)
    except Exception:  # one group must not end the others
        traceback.print_exc()
        return len(group.keys)
    return failed


def _cell(wanted: Asked, module: ModuleType, key: str, compute: Callable[[], dict[str, Any]]) -> int:
    started = time.monotonic()
    try:
        made = compute()
    except Exception:  # one cell must not end the others
        print(f"{key} failed", flush=True)
        traceback.print_exc()
        return 1
    seconds = round(time.monotonic() - started, 1)
    made |= {"settings": wanted.given.settings, "seconds": seconds, "origin": record.origin()}
    made["backbone"] = Path(wanted.given.backbone).name
    record.add(wanted.prefix + module.NAME, key, made)
    print(f"{module.NAME} {key} {seconds} s", flush=True)
    return 0
