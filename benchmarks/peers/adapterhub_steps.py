"""AdapterHub's side of `benchmarks.steps_per_second`: a process that times a chunk of rows when it is asked.

It is started with one JSON argument (rows, labels, backbone, device, setting), says a line when it is ready,
and answers each line of row numbers with the seconds of a step. It ends with its input.
"""

import json
import os
import sys
from pathlib import Path

from benchmarks.peers.adapterhub import model_of
from benchmarks.peers.problem import Problem, read_rows
from benchmarks.peers.trainer import Recipe, timed, tokenizer_of, with_labels


def main() -> int:
    import torch
    from adapters import AdapterTrainer

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    told = json.loads(sys.argv[1])
    setting, answers = told["setting"], os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    train = read_rows(Path(told["rows"]))
    problem = Problem(train, (), told["num_labels"], False, told["backbone"], told["device"])
    rows = with_labels(problem.train, tokenizer_of(problem), numbers=False)
    recipe = Recipe(1e-3, 1, setting["batch_size"], bfloat16=setting["bfloat16"])
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        chunk, model = [rows[row] for row in json.loads(line)], model_of(problem)
        seconds = timed(model, AdapterTrainer, problem, recipe, setting["skip"], chunk)
        print(seconds, file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
