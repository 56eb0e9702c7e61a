"""Variants of the same work take turns on the same batches, so that a noisy machine treats them alike."""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from modeling import METHODS, Adapter, Backbone, Encoded, HeadSpec, ServedModel

Batches = list[list[Encoded]]
Seconds = dict[str, list[float]]


def options(about: str | None, rounds: int, rows: int) -> argparse.ArgumentParser:
    """What every program of ratios takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--rows", type=int, default=rows, help="rows per batch")
    return parser


def random_texts(
    rows: int, rng: random.Random, start: Sequence[int], between: tuple[int, int], end: int
) -> list[Encoded]:
    """Lognormal lengths (median 20 tokens, 6 to 128); random ids `between` those of `start` and `end`."""
    texts = []
    for _ in range(rows):
        length = min(128, max(6, round(rng.lognormvariate(math.log(20), 0.8))))
        ids = [*start, *(rng.randrange(*between) for _ in range(length - len(start) - 1)), end]
        texts.append(Encoded(ids, [0] * length, length, truncated=False))
    return texts


def served(
    backbone: Backbone, count: int, methods: Sequence[str], specs: Sequence[HeadSpec], *, fast: bool = True
) -> tuple[ServedModel, list[int]]:
    """A model with `count` tasks and their slots; methods and heads in turn, parameters moved a little."""
    model, slots = ServedModel(backbone, fast=fast), []
    for i in range(count):
        method = METHODS[methods[i % len(methods)]].from_config({})
        adapter = Adapter.create(backbone, method, specs[i % len(specs)], seed=i)
        with torch.no_grad():
            for parameter in adapter.body_parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        slots.append(model.install(adapter.pack()))
    return model, slots


def take_turns(
    variants: Mapping[str, Callable[[Any], object]],
    rounds: Sequence[Sequence[Any]],
    rng: random.Random,
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:
    """Seconds of every variant for the batches of each round; the first round warms up and does not count."""
    seconds: Seconds = {name: [] for name in variants}
    for batches in rounds:
        for name in sorted(variants, key=lambda _: rng.random()):
            start = clock()
            for batch in batches:
                variants[name](batch)
            seconds[name].append(clock() - start)
    return {name: spent[1:] for name, spent in seconds.items()}


def ratio(seconds: Seconds, name: str, base: str) -> dict[str, float]:
    """Throughput of `name` over that of `base`: median and quartiles of the rounds' ratios."""
    values = [b / s for s, b in zip(seconds[name], seconds[base], strict=True)]
    low, _, high = statistics.quantiles(values, n=4)
    return {"median": round(statistics.median(values), 3), "q1": round(low, 3), "q3": round(high, 3)}


def print_ratios(result: Mapping[str, Any]) -> None:
    print(f"{'throughput of A / B':52} median   (quartiles)")
    for name, value in result["throughput_ratios"].items():
        print(f"{name:52} {value['median']:6.3f}   ({value['q1']:.3f} to {value['q3']:.3f})")
