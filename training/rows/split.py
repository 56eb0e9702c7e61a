"""Which rows are held out: drawn by stratum and seed, or as the Compacter paper splits public files.

Row numbers only; knows no files and no texts.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

from training.formats.official import HALVE, THOUSAND

PAPER_SEED = 42
"""The Compacter paper's seed for every permutation of rows."""

_LARGE_ROWS = 10_000
_HELD_OUT_ROWS = 1000


def draw_validation(
    texts: Sequence[Hashable], strata: Sequence[Hashable], *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Row numbers kept and held out, both in file order.

    Rows with the same text move together, under the stratum of the first. A stratum gives up its share of
    groups, rounded by the largest remainder over all strata, and never its last one, so every label stays in
    train.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        groups[text].append(row)
    by_stratum: dict[Hashable, list[list[int]]] = defaultdict(list)
    for rows in groups.values():
        by_stratum[strata[rows[0]]].append(rows)
    shares = _shares([len(members) for members in by_stratum.values()], fraction)
    chooser = random.Random(f"split {seed}")  # noqa: S311 - a reproducible draw, not a secret
    held: set[int] = set()
    for members, share in zip(by_stratum.values(), shares, strict=True):
        for rows in chooser.sample(members, share):
            held.update(rows)
    return [row for row in range(len(texts)) if row not in held], sorted(held)


def _shares(sizes: Sequence[int], fraction: float) -> list[int]:
    wanted = max(1, round(sum(sizes) * fraction))
    exact = [size * fraction for size in sizes]
    shares = [min(int(value), size - 1) for value, size in zip(exact, sizes, strict=True)]
    order = sorted(range(len(sizes)), key=lambda i: (int(exact[i]) - exact[i], -sizes[i], i))
    for i in [*order, *order]:
        if sum(shares) >= wanted:
            break
        if shares[i] < sizes[i] - 1:
            shares[i] += 1
    return shares


def paper_file(split: str, rule: str) -> str:
    """The file ("train", "validation" or "test") that a `split` is taken from under a rule of the paper."""
    return _FILES.get((rule, split), split)


def paper_rows(split: str, rule: str, num_rows: int, max_rows: int | None = None) -> list[int]:
    """Which of the `num_rows` rows of `paper_file` are the `split`, in the paper's order.

    `halve`: the first half (rounded down) of the permuted validation file is validation, the rest is test.
    `thousand`: the first 1,000 rows of the permuted train file are validation, the rest is train, and the
    validation file is test. `files`: as the files are. `max_rows` takes the first rows of the permutation,
    which is the paper's subsample. The permutation is `torch.randperm` with seed 42, as in the official code.
    """
    cut = _CUTS.get((rule, split))
    if cut is None:
        return list(range(num_rows)) if max_rows is None else permutation(num_rows)[:max_rows]
    first, last = cut(num_rows)
    return permutation(num_rows)[first:last][:max_rows]


def rule_for(num_train: int) -> str:
    """The rule of a data set without an official one, by the number of its train rows."""
    return HALVE if num_train < _LARGE_ROWS else THOUSAND


def permutation(num_rows: int, seed: int = PAPER_SEED) -> list[int]:
    """The row numbers in the order that the official code gives them."""
    import torch  # the rest of this file is arithmetic on lists

    return list(torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed)).tolist())


_FILES = {(HALVE, "test"): "validation", (THOUSAND, "validation"): "train", (THOUSAND, "test"): "validation"}
_CUTS: Mapping[tuple[str, str], Callable[[int], tuple[int, int]]] = {
    (HALVE, "validation"): lambda n: (0, n // 2),
    (HALVE, "test"): lambda n: (n // 2, n),
    (THOUSAND, "validation"): lambda n: (0, min(_HELD_OUT_ROWS, n)),
    (THOUSAND, "train"): lambda n: (min(_HELD_OUT_ROWS, n), n),
}
