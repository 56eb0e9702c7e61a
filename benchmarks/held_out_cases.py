"""Do our defaults hold beside what a person would do instead? Cases of every size, five seeds each.

For each case: scikit-learn's logistic regression on unit-length embeddings (C = 1, and C by its own
cross-validation), SetFit where rows are few, our `linear_probe` and our default method, all on the same rows.
A seed draws the rows and seeds the training; test rows chose nothing.

    python -m benchmarks.held_out_cases --data ../shared/data --workers 12 --device cuda --minutes 9
    python -m benchmarks.held_out_cases --time        # seconds of the default run, alone on one core
    python -m benchmarks.held_out_cases --table       # only print what there is
"""

import statistics
import subprocess
import sys
import tempfile
import time
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from benchmarks import contest, record, tables
from benchmarks.contest import Contender, Entry, Place, ours, peer, peer_elsewhere
from benchmarks.draws import Case, draw
from benchmarks.intervals import Mean, mean, paired

NAME = "held_out_cases"
SEEDS = range(5)
FEW_ROWS = 500  # SetFit makes 40 pairs a row: beyond this it is not what one would do
CASES = (
    Case("many intents, 1,000 rows", "hwu64", rows=1000),
    Case("20 topics, 8 a class", "stackoverflow20", per_class=8),
    Case("20 topics, 16 a class", "stackoverflow20", per_class=16),
    Case("two classes, 8 a class", "review_sentences", per_class=8, tests=("test", "validation")),
    Case("two classes, 16 a class", "sst2", per_class=16, tests=("validation",)),
    Case("two classes, 500 rows", "sst2", rows=500, tests=("validation",)),
    Case("77 intents, 5,000 rows", "banking77", rows=5000),
    Case("pairs, 2,000 rows", "mrpc", rows=2000),
    Case("6 question types, 1,000 rows", "trec", rows=1000),
)
PLAIN, TUNED, SETFIT, PROBE, DEFAULT = "logistic", "logistic_cv", "setfit", "linear_probe", "hadamard"
CONTENDERS: tuple[Contender, ...] = (
    peer(PLAIN),
    peer(TUNED),
    ours(PROBE),
    ours(DEFAULT),
    peer_elsewhere(SETFIT, attrgetter("setfit")),
)
Cells = dict[str, Any]


def entries(cases: list[Case], contenders: list[Contender]) -> list[Entry]:
    """Seed by seed, so that what there is after a while is of all cases."""
    return [
        Entry(case, contender, seed)
        for seed in SEEDS
        for case in cases
        for contender in contenders
        if contender.name != SETFIT or is_few(case)
    ]


def is_few(case: Case) -> bool:
    """Whether SetFit takes part."""
    return bool(case.per_class) or case.rows <= FEW_ROWS


def by_seed(cells: Cells, case: Case, contender: str) -> dict[int, float]:
    """Scores (x 100) of a contender."""
    found = {seed: cells.get(f"{case.name}/{contender}/{seed}") for seed in SEEDS}
    return {seed: 100 * cell["value"] for seed, cell in found.items() if cell}


def table(cells: Cells) -> str:
    """Mean and standard error over seeds; differences are those of the same rows and seed."""
    names = [contender.name for contender in CONTENDERS]
    head = ["case", *(f"`{name}`" for name in names), *DIFFERENCES, "seconds of the default run"]
    rows = []
    for case in CASES:
        found = {name: by_seed(cells, case, name) for name in names}
        if not any(found.values()) and time_key(case) not in cells:
            continue
        scores = [mean(list(values.values())).shown() if values else "" for values in found.values()]
        rows.append([case.name, *scores, *map(_shown, differences(found)), _seconds(cells, case)])
    return tables.table(head, rows) + (f"\n\n{summary(cells)}" if rows else "")


DIFFERENCES = ("probe − better logistic", "default − better of the others", "default − probe")


def differences(found: dict[str, dict[int, float]]) -> list[Mean | None]:
    """Of `DIFFERENCES`; the better one is so by its mean over seeds."""
    logistic = _better([found[PLAIN], found[TUNED]])
    others = _better([logistic, found[SETFIT]])
    return [
        paired(found[PROBE], logistic),
        paired(found[DEFAULT], others),
        paired(found[DEFAULT], found[PROBE]),
    ]


def _better(several: list[dict[int, float]]) -> dict[int, float]:
    return max(several, key=lambda values: statistics.fmean(values.values()) if values else float("-inf"))


def _shown(difference: Mean | None) -> str:
    return "" if difference is None else difference.shown(sign=True)


def summary(cells: Cells) -> str:
    """The differences on average over the cases that have them, with the worst case."""
    lines = []
    for place, name in enumerate(DIFFERENCES):
        found = {
            case.name: difference.value
            for case in CASES
            if (difference := differences({c.name: by_seed(cells, case, c.name) for c in CONTENDERS})[place])
        }
        if found:
            worst = min(found, key=lambda case: found[case])
            average = statistics.fmean(found.values())
            lines.append(f"- {name}: {average:+.1f} on average, at worst {found[worst]:+.1f} ({worst}).")
    return "\n".join(lines)


def _seconds(cells: Cells, case: Case) -> str:
    cell = cells.get(time_key(case))
    if cell is None:
        return ""
    return f"{cell['command']:.0f}, of training {cell['run']:.0f} ({cell['ratio']:.1f} × embedding)"


def time_key(case: Case) -> str:
    return f"time/{case.name}"


def measure(case: Case, place: Place) -> Cells:
    """Seconds on one core: the embedding pass alone, a run with the backbone loaded, and the whole command.

    `ratio` is of the run to the embedding pass over the same rows.
    """
    from training.run import train
    from training.settings.config import TrainConfig

    backbone = contest.open_backbone(place.backbone, place.device)
    drawn = draw(case, place.data, 0)
    with tempfile.TemporaryDirectory() as folder:
        drawn.write(Path(folder))
        embedding = _embedding_seconds(backbone, [drawn.texts(row) for row in drawn.train])
        started = time.monotonic()
        config = TrainConfig(data=folder, task="case", device=place.device)
        result = train(config, backbone=backbone, write_file=False)
        seconds = time.monotonic() - started
        whole = _command_seconds(Path(folder), place)
    return {
        "case": case.name,
        "embedding": round(embedding, 3),
        "run": round(seconds, 3),
        "command": round(whole, 3),
        "ratio": round(seconds / embedding, 3),
        "rows": len(drawn.train),
        "settings": dict(result.hyper),
        "origin": record.origin(),
    }


def _command_seconds(folder: Path, place: Place) -> float:
    """Of `trunkline train`, from its start to the checked file."""
    named = {"--data": folder, "--task": "case", "--out": folder / "case.safetensors"}
    named |= {"--device": place.device, "--backbone": place.backbone}
    flags = [str(part) for pair in named.items() for part in pair]
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "trunkline", "train", *flags], check=True, capture_output=True)
    return time.monotonic() - started


def _embedding_seconds(backbone: Any, rows: list[tuple[str, ...]]) -> float:
    """Tokens and pooled states of all rows, as stage one makes them; the first batch warms up."""
    from modeling import HeadSpec
    from training.loop.encode import encode_items
    from training.loop.passes import features

    spec = HeadSpec("single_label", ("a", "b"), pooling="mean")
    items: list[str | tuple[str, str]] = [row[0] if len(row) == 1 else (row[0], row[1]) for row in rows]
    for part in (items[:32], items):
        started = time.monotonic()
        features(backbone, encode_items(backbone, part, 128), spec, lambda: None)
    return time.monotonic() - started


def main() -> int:
    parser = contest.options(__doc__, CASES, CONTENDERS)
    parser.add_argument("--time", action="store_true", help="measure seconds instead, alone on one core")
    parser.add_argument("--seed", type=int, action="append", choices=SEEDS, help="only these seeds")
    args = parser.parse_args()
    name, failed = args.name or NAME, 0
    cases = [case for case in CASES if not args.case or case.name in args.case]
    contenders = [one for one in CONTENDERS if not args.contender or one.name in args.contender]
    if args.time:
        torch.set_num_threads(1)
        for case in cases:
            record.add(name, time_key(case), measure(case, contest.place_of(args)))
    elif not args.table:
        wanted = [e for e in entries(cases, contenders) if not args.seed or e.seed in args.seed]
        failed = contest.run(name, wanted, contest.place_of(args), args.workers, args.minutes)
    print(table(record.read(name)))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
