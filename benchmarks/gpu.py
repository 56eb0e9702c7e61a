"""What does mixing cost on a GPU, and what do recorded passes bring?

On one CUDA device in bfloat16: batches of 1 to 256 rows (lognormal lengths, 6 to 128 tokens), bare and with
64 tasks of each method in turn, on the recorded path and on the reference path, and bare batches through the
unmodified library on padded grids. BERT-base's shape and T5-base's (its encoder, on the reference path alone)
have random weights, MiniLM is the embedded one. Then `--residents` Hadamard tasks on MiniLM: seconds to
install them, bytes, and how many passes are recorded while they are exchanged. Variants take turns, the ratio
of each turn is taken, the median of those is printed. Without a CUDA device it refuses.

    python -m benchmarks.gpu [--rounds 20] [--rows 1 8 64 256] [--residents 1000000]
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM

from benchmarks import record, turns
from benchmarks.mixed_batch import METHOD_SETS, SPECS, padded, random_batch
from modeling import METHODS, Adapter, Backbone, Encoded, ServedModel, load_backbone
from modeling.counts import architecture
from modeling.cuda import RecordedPath
from modeling.cuda.plan import plan_of
from modeling.loading import minilm_directory
from modeling.vocabulary import read_tokenizer

NAME = "gpu"
REFUSAL = "benchmarks.gpu needs a CUDA device and found none: run it on a machine that has one"
SHAPES = ("bert-base", "minilm", "t5-base")
SETS = {"hadamard": ("hadamard",), "ln_tuning": ("ln_tuning",), "phm": ("phm",), **METHOD_SETS}
TASKS = 64
AT_A_TIME = 1000  # tasks that are installed together
EXCHANGES = 100
Run = Callable[[list[Encoded]], object]


def backbone_of(shape: str, device: str = "cuda") -> tuple[Backbone, Any]:
    """In bfloat16, and the library's own model beside it."""
    if shape == "minilm":
        library = AutoModel.from_pretrained(str(minilm_directory())).to(device, torch.bfloat16).eval()
        return load_backbone("minilm", device=device, dtype=torch.bfloat16), library
    config = architecture(shape)
    kind = AutoModelForSeq2SeqLM if shape.startswith("t5") else AutoModel
    torch.manual_seed(0)
    model = kind.from_config(config).to(device, torch.bfloat16).eval()
    library = deepcopy(model)
    tokenizer = read_tokenizer(str(minilm_directory()))
    backbone = Backbone(shape, model, config, tokenizer, torch.bfloat16)
    return backbone, library.get_encoder() if backbone.is_encoder_decoder else library


def variants(
    fresh: Callable[[], tuple[Backbone, Any]], sets: Mapping[str, Sequence[str]], rng: random.Random
) -> dict[str, Run]:
    """Bare and mixed batches on both paths (the adapters of both are the same), and the library's.

    Each has a backbone of its own: what one attaches would slow another's reference path.
    """
    backbone, library = fresh()
    paths = ["reference"] if plan_of(backbone) is None else ["recorded", "reference"]
    made: dict[str, Run] = {"library, padded": partial(padded, library, device=backbone.device)}
    for name, methods in {"bare": (), **sets}.items():
        for path in paths:
            made[f"{name}, {path}"] = partial(_batch, _served(fresh()[0], methods, path), rng=rng)
    return made


def _served(backbone: Backbone, methods: Sequence[str], path: str) -> ServedModel:
    model = ServedModel(backbone, fast=path == "recorded", path_of=RecordedPath.on)
    for number in range(TASKS if methods else 0):
        adapter = _adapter(backbone, methods[number % len(methods)], number)
        model.install(adapter.pack())
    return model


def _adapter(backbone: Backbone, method: str, number: int) -> Adapter:
    """Its parameters moved a little."""
    made = METHODS[method].from_config({})
    spec = replace(SPECS[number % len(SPECS)], pooling=backbone.poolings[0])
    adapter = Adapter.create(backbone, made, spec, seed=number)
    with torch.no_grad():
        for parameter in adapter.body_parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return adapter


def _batch(model: ServedModel, batch: list[Encoded], rng: random.Random) -> None:
    """Rows drawn from the tasks, or bare ones; a number that is read waits for the device."""
    if not model.num_resident:
        model.hidden(batch, [0] * len(batch))[0][0, 0].item()
        return
    slots = [1 + rng.randrange(model.num_resident) for _ in batch]
    model.run(batch, [model.placement(slot).body_slot for slot in slots], list(enumerate(slots)))


def ratios(made: Mapping[str, Run], batches: Sequence[list[list[Encoded]]]) -> dict[str, Any]:
    """Throughput of a variant over that of another one, by what they are called."""
    seconds = turns.take_turns(made, batches, random.Random(1))
    names = sorted({name.split(",")[0] for name in made} - {"library"})
    found = {}
    for name in names:
        quick = f"{name}, recorded" if f"{name}, recorded" in made else f"{name}, reference"
        bare = quick.replace(name, "bare")
        against = "library, padded" if name == "bare" else bare
        found[f"{quick} / {against}"] = turns.ratio(seconds, quick, against)
        if quick.endswith("recorded"):
            found[f"{quick} / {name}, reference"] = turns.ratio(seconds, quick, f"{name}, reference")
    return found


def residency(backbone: Backbone, residents: int) -> dict[str, Any]:
    """Many Hadamard tasks: what installing them takes, and passes recorded while some are exchanged."""
    model = ServedModel(backbone, path_of=RecordedPath.on)
    packed = _adapter(backbone, "hadamard", 0).pack()
    start = time.perf_counter()
    for first in range(0, residents, AT_A_TIME):
        model.install_all([packed] * min(AT_A_TIME, residents - first))
    seconds = time.perf_counter() - start
    rng, texts = random.Random(0), random_batch(backbone, 8, random.Random(0))
    _batch(model, texts, rng)
    before = model.num_recorded
    for _ in range(EXCHANGES):
        model.remove(1 + rng.randrange(residents))
        model.install(packed)
        _batch(model, texts, rng)
    return {
        "residents": residents,
        "install_seconds": round(seconds, 3),
        "bytes": model.nbytes,
        "recorded_in_exchanges": model.num_recorded - before,
    }


def measure(
    made_of: Callable[[str], tuple[Backbone, Any]],
    shapes: Sequence[str],
    sets: Mapping[str, Sequence[str]],
    num_rounds: int,
    sizes: Sequence[int],
    residents: int,
) -> dict[str, Any]:
    """All tables; `made_of` gives the backbone of a shape and the library's model."""
    found: dict[str, Any] = {}
    for shape in shapes:
        rng, (backbone, _) = random.Random(0), made_of(shape)
        made = variants(partial(made_of, shape), sets, rng)
        for rows in sizes:
            batches = [[random_batch(backbone, rows, rng)] for _ in range(num_rounds + 1)]
            for name, value in ratios(made, batches).items():
                found[f"{shape}, {rows} rows: {name}"] = value
    backbone, _ = made_of("minilm")
    return {
        "origin": record.origin(),
        "rounds": num_rounds,
        "throughput_ratios": found,
        "residency": residency(backbone, residents),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64, 256], help="rows per batch")
    parser.add_argument("--residents", type=int, default=1_000_000, help="Hadamard tasks at once")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(REFUSAL, file=sys.stderr)
        return 1
    result = measure(backbone_of, SHAPES, SETS, args.rounds, args.rows, args.residents)
    turns.print_ratios(result)
    print(result["residency"])
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
