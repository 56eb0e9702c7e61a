"""`make demo`: four tasks of a support desk, from rows in a file to answers over HTTP in minutes.

Trains each task into a small adapter file, starts a server, publishes the files, asks, and compares what
the server says with an offline evaluation. The commands it runs are the ones a person would type; it shows
them. Files go to .demo/, which is emptied first. Exit status 0 only if everything was as it should be.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from demo_messages import MAILS, PAIRS, SINGLE
from demo_server import DemoError, Server, free_port, own_environment
from demo_tables import Asked, TaskReport, answers_table, scores_table
from rich.console import Console

from training import TrainingError
from trunkline import Client, TrunklineError

if TYPE_CHECKING:  # torch is loaded when it is needed: the first line should appear at once
    from training.file.evaluate import FileEvaluation

ROOT = Path(__file__).resolve().parents[2]
DATA = Path("examples/support_desk")
WORK = Path(".demo")
TASKS = ("intents", "urgency", "duplicates", "tags")
MAIL_TASKS = ("intents", "urgency", "tags")
SEED = 7

PIPED_COLUMNS = 110  # a pipe or a log has no width
console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_COLUMNS)


def main() -> int:
    """Run the demo; returns the exit status."""
    device = _arguments().device
    signal.signal(signal.SIGTERM, _stop)
    os.chdir(ROOT)  # so that the commands read as one would type them in the repository
    started = time.monotonic()
    try:
        run(device)
    except KeyboardInterrupt:
        console.print("\nstopped", style="bold")
        return 130
    except (DemoError, TrunklineError, TrainingError, OSError) as error:
        console.print(f"\nThe demo failed: {error}", style="bold red", markup=False)
        return 1
    console.print(
        f"Done in {time.monotonic() - started:.0f} s; the server has stopped, the files are in {WORK}/."
    )
    return 0


def run(device: str) -> None:
    """All steps in order.

    Raises DemoError or TrunklineError at the first thing that is not as it should be.
    """
    _say("1/5", f"Train {len(TASKS)} tasks, each into one small file; the backbone is never changed.")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    for task in TASKS:
        options = ["--data", f"{DATA / task}", "--task", task, "--out", f"{_file(task)}"]
        _trunkline("train", *options, "--device", device)
    _say("2/5", "Evaluate the files on the held-out rows, offline; this is what the server will be held to.")
    offline = evaluate_all(device)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    _say("3/5", "Serve all of them from one process, and publish the files to it.")
    options = ["--store", f"{WORK / 'store'}", "--port", f"{port}", "--device", device]
    options += ["--dtype", "float32"]  # exact to the last digits: without it the server may round to bfloat16
    with Server(_shown("serve", *options), url, WORK / "server.log"), Client(url) as client:
        for task in TASKS:
            _trunkline("push", f"{_file(task)}", "--url", url)
        _say("4/5", "Ask: one text; a batch of pairs; six mails with three tasks at once.")
        console.print(answers_table(ask(client)))
        _say("5/5", "Ask all held-out rows in requests mixed at random, and compare with step 2.")
        reports = compare(client, offline)
        console.print(scores_table(reports))
        check_learned(reports)


def evaluate_all(device: str) -> dict[str, FileEvaluation]:
    """Each file on its held-out rows, in this process, without a server."""
    from modeling import load_backbone
    from training.file.evaluate import evaluate_file
    from training.loop.device import pick_device

    backbone = load_backbone("minilm", device=pick_device(device))
    found = {task: evaluate_file(_file(task), DATA / task, backbone=backbone) for task in TASKS}
    for task, evaluation in found.items():
        console.print(
            f"  {task:<11}{evaluation.metric} {evaluation.value:.4f} on {len(evaluation.rows)} rows"
        )
    return found


def ask(client: Client) -> list[Asked]:
    """The three shapes of a request: single, batched, several tasks at once."""
    asked = [Asked("One text:", SINGLE, client.predict("intents", SINGLE))]
    for pair, prediction in zip(PAIRS, client.predict("duplicates", PAIRS), strict=True):
        asked.append(Asked("A batch of pairs:", pair, prediction.raise_for_error()))
    answers = client.predict_tasks(MAIL_TASKS, MAILS)
    for row, mail in enumerate(MAILS):
        asked += [
            Asked("Three tasks at once on six mails:", mail, answers[task][row].raise_for_error())
            for task in MAIL_TASKS
        ]
    return asked


def compare(client: Client, offline: Mapping[str, FileEvaluation]) -> list[TaskReport]:
    """Ask all held-out rows over HTTP; a report per task.

    Raises DemoError when an answer or a metric is not the one of the offline evaluation.
    """
    from demo_held_out import Tolerance, ask_mixed, check_metric, largest_difference

    tolerance = Tolerance(**client.limits()["tolerance"]["mixed_batch_float32"])
    num_backbone = client.info()["backbone"]["parameters"]
    served = ask_mixed(client, offline, SEED)
    differences = [largest_difference(offline[task], served[task], tolerance) for task in TASKS]
    num_rows = sum(len(rows) for rows in served.values())
    console.print(
        f"  {num_rows} answers equal the offline ones; largest difference of a logit {max(differences):.1e}, "
        f"allowed {tolerance.atol:g} + {tolerance.rtol:g} of its size"
    )
    return [_report(offline[task], check_metric(offline[task], served[task]), num_backbone) for task in TASKS]


def check_learned(reports: list[TaskReport]) -> None:
    """Every task beats the answer that does not read the text. Raises DemoError otherwise."""
    for report in reports:
        for metric, value, baseline in report.scores:
            better = baseline is None or (value < baseline if metric == "mae" else value > baseline)
            if not better:
                found = f"{metric} is {value:.3f}, the baseline's {baseline:.3f}"
                raise DemoError(f"{report.task}: {found}; it has learned nothing")


def _report(offline: FileEvaluation, value: float, num_backbone: int) -> TaskReport:
    from adapters_store import read_adapter_file

    adapter = read_adapter_file(_file(offline.task))
    num_head = sum(t.numel() for name, t in adapter.tensors.items() if name.startswith("head/"))
    num_all = sum(t.numel() for t in adapter.tensors.values())
    known, metric = offline.baseline.values, offline.metric
    scores: list[tuple[str, float, float | None]] = [(metric, value, known.get(metric))]
    if metric == "pearson_spearman":  # a constant has no correlation: the error can be compared
        scores.append(("mae", offline.metrics["mae"], known["mae"]))
    return TaskReport(
        task=offline.task,
        num_rows=len(offline.rows),
        scores=tuple(scores),
        file_bytes=adapter.size_bytes,
        num_adapter=num_all - num_head,
        num_head=num_head,
        num_backbone=num_backbone,
    )


def _file(task: str) -> Path:
    return WORK / f"{task}.safetensors"


def _trunkline(*arguments: str) -> None:
    """Run a command to its end, its output on ours. Raises DemoError when it fails."""
    status = subprocess.run(_shown(*arguments), env=own_environment(), check=False).returncode
    if status != 0:
        raise DemoError(f"`trunkline {shlex.join(arguments)}` ended with status {status}")


def _shown(*arguments: str) -> list[str]:
    """The command line of `trunkline …`, printed as one would type it."""
    console.print(f"$ trunkline {shlex.join(arguments)}", style="cyan", markup=False, soft_wrap=True)
    return [sys.executable, "-m", "trunkline", *arguments]


def _say(step: str, sentence: str) -> None:
    console.print(f"\n[bold]{step}[/bold]  {sentence}")


def _stop(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train four tasks, serve them together, ask them over HTTP.")
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "auto"), default="cpu", help="default: %(default)s"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
