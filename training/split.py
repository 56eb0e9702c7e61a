"""Drawing a validation split: by stratum, by seed, and never with one text on both sides."""

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence


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
