"""Runs an alternative on rows of JSON Lines and prints JSON: accuracy (or the error), seconds, answers.

    python -m benchmarks.peers logistic --train train.jsonl --test test.jsonl --backbone FOLDER

A line of a file is {"texts": ["one"] or ["one", "two"], "label": 3}. With --numbers labels are numbers.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.adapterhub import adapterhub_compacter, adapterhub_compacter_tuned
from benchmarks.peers.linear import logistic, logistic_cv
from benchmarks.peers.peft_lora import peft_lora, peft_lora_tuned
from benchmarks.peers.problem import Problem, read_rows
from benchmarks.peers.setfit_model import setfit

PEERS: dict[str, Callable[[Problem], list[float]]] = {
    run.__name__: run
    for run in (
        logistic,
        logistic_cv,
        setfit,
        peft_lora,
        peft_lora_tuned,
        adapterhub_compacter,
        adapterhub_compacter_tuned,
    )
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--backbone", required=True, help="folder of a model of transformers")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--numbers", action="store_true", help="the labels are numbers")
    args = parser.parse_args()
    train, test = read_rows(args.train), read_rows(args.test)
    count = 1 if args.numbers else 1 + int(max(row.label for row in (*train, *test)))
    texts = tuple(row.texts for row in test)
    problem = Problem(train, texts, count, args.numbers, args.backbone, args.device, args.seed)
    started = time.monotonic()
    told = PEERS[args.name](problem)
    seconds = time.monotonic() - started
    pairs = list(zip(told, (row.label for row in test), strict=True))
    mistakes = sum((a - b) ** 2 if args.numbers else a != b for a, b in pairs) / len(pairs)
    score = {"mean_squared_error": mistakes} if args.numbers else {"accuracy": 1 - mistakes}
    print(json.dumps({"name": args.name, **score, "seconds": round(seconds, 3), "answers": told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
