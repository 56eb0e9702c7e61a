"""Two adapter files on the same rows: whether one is better, by a paired test, and on which rows they part.

Each answers in its serving form, as `evaluate.py` has it. Whether a difference holds is for
`training/metrics/paired.py`; here rows are made sure to be the same.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapters_store.manifest import Manifest
from modeling import Backbone, load_backbone
from training.data.card import Flags
from training.errors import ConfigError, DataError
from training.file.evaluate import FileEvaluation, evaluate_file, named_backbone, stored_file
from training.loop.device import pick_device
from training.metrics.paired import (
    FEWEST_ROWS,
    Agreement,
    Difference,
    agreement_of,
    mcnemar,
    paired_difference,
    paired_score_difference,
)
from training.metrics.scores import LOWER_IS_BETTER
from training.report.result import plain
from training.rows.items import Item

_SAMPLES_OF_SCORES = 1_000
"""An F1 or a correlation is computed anew for each resample."""


@dataclass(frozen=True)
class Parted:
    """A row that one file alone gets right."""

    row: int
    item: Item
    expected: Any
    first: Any
    second: Any
    right: str


@dataclass(frozen=True)
class Comparison:
    """`difference` is the metric of the second file minus that of the first.

    `agreement` counts the rows that both, one alone or none gets right, `p_value` is McNemar's of those; both
    None where rows are not right or wrong.
    """

    names: tuple[str, str]
    first: FileEvaluation
    second: FileEvaluation
    sizes: tuple[int, int]
    difference: Difference
    agreement: Agreement | None = None
    p_value: float | None = None
    rows: tuple[Parted, ...] = ()

    @property
    def metric(self) -> str:
        return self.first.metric

    @property
    def better(self) -> str | None:
        """The name of the file that is better; None without a difference that holds."""
        if not self.difference.holds:
            return None
        return self.names[int((self.difference.mean > 0) != (self.metric in LOWER_IS_BETTER))]

    @property
    def verdict(self) -> str:
        """One sentence: which is better, or that there is no difference, and then which is smaller."""
        found, metric = self.difference, self.metric
        shown = f"{found.mean:+.4f} ({found.level:.0%} interval {found.low:+.4f} to {found.high:+.4f})"
        if self.better is not None:
            return f"{self.better} is better: {metric} of {self.names[1]} minus {self.names[0]} is {shown}"
        return f"no difference in {metric}: {shown}{self._why()}; {self._smaller()}"

    def _why(self) -> str:
        found = self.difference
        if found.num_rows < FEWEST_ROWS:
            return f", and {found.num_rows} rows are too few to tell (at least {FEWEST_ROWS})"
        if not math.isfinite(found.low + found.high):
            return f", and {self.metric} is not defined on some resamples of these rows"
        if found.low <= 0 <= found.high:
            return ", which contains nought"
        return f", but {found.test} gives p = {found.p_value:.3f}"

    def _smaller(self) -> str:
        one, other = self.sizes
        if one == other:
            return "the files are of one size"
        less, more = sorted(self.sizes)
        return f"{self.names[int(other < one)]} is the smaller file ({less:,} against {more:,} bytes)"

    def to_dict(self, *, with_rows: bool = False) -> dict[str, Any]:
        """Plain JSON values; the rows on demand."""
        files = [
            {
                "file": name,
                "digest": one.digest,
                "method": one.method,
                "size_bytes": size,
                "metrics": dict(one.metrics),
            }
            for name, one, size in zip(self.names, (self.first, self.second), self.sizes, strict=True)
        ]
        told: dict[str, Any] = {
            "files": files,
            "split": self.first.split,
            "source": self.first.source,
            "metric": self.metric,
            "difference": {**asdict(self.difference), "holds": self.difference.holds},
            "agreement": None if self.agreement is None else asdict(self.agreement),
            "mcnemar_p_value": self.p_value,
            "better": self.better,
            "verdict": self.verdict,
        }
        if with_rows:
            told["rows"] = [asdict(row) for row in self.rows]
        found: dict[str, Any] = plain(told)
        return found


def compare_files(
    first: Path,
    second: Path,
    data: Path,
    split: str = "test",
    *,
    backbone: Backbone | None = None,
    backbone_name: str | None = None,
    device: str = "auto",
    flags: Flags | None = None,
    max_rows: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Both files on the `split` of a folder, or on all rows of one file.

    Raises:
        DataError: a file is refused, or they cannot be asked the same (other labels, kinds or rows).
        ConfigError: a backbone that is not here, or one name for two of them.
    """
    manifests = [stored_file(path).manifest for path in (first, second)]
    names = _names(first, second)
    _check_labels(names, manifests)
    backbones = _backbones(manifests, backbone, backbone_name, device)
    found = [
        evaluate_file(path, data, split, backbone=own, flags=flags, max_rows=max_rows)
        for path, own in zip((first, second), backbones, strict=True)
    ]
    _check_same(names, found)
    compared = Comparison(
        names, found[0], found[1], (first.stat().st_size, second.stat().st_size), _difference(found, seed)
    )
    return _parted(compared)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """As short as they can be told apart."""
    if first.name != second.name:
        return first.name, second.name
    return str(first), str(second)


def _check_labels(names: Sequence[str], manifests: Sequence[Manifest]) -> None:
    """Before rows are read, which one file could refuse for the other's labels."""
    one, other = (manifest.head for manifest in manifests)
    if one.kind != other.kind or min(len(one.labels), len(other.labels)) < 2:
        return  # what can be compared all the same is seen when both have read the rows
    missing = [
        f"{sorted(set(head.labels) - set(rest.labels))[:5]} in {name} alone"
        for name, head, rest in ((names[0], one, other), (names[1], other, one))
        if set(head.labels) - set(rest.labels)
    ]
    if missing:
        raise DataError(f"the files have other labels: {'; '.join(missing)}; compare files of one task")


def _backbones(
    manifests: Sequence[Manifest], backbone: Backbone | None, name: str | None, device: str
) -> list[Backbone]:
    """One for each file; loaded once where both were trained on the same."""
    if backbone is not None:
        return [backbone, backbone]
    one, other = (manifest.backbone for manifest in manifests)
    same = (one.weights_digest, one.config_digest) == (other.weights_digest, other.config_digest)
    if name is not None and not same:
        raise ConfigError(
            f"--backbone is {name!r}, and the files were trained on two ({one.name} and {other.name}): leave "
            "it out; each file's own must then be minilm or a directory here"
        )
    picked = pick_device(device)
    loaded = load_backbone(name or named_backbone(manifests[0]), device=picked)
    return [loaded, loaded if same else load_backbone(named_backbone(manifests[1]), device=picked)]


def _check_same(names: Sequence[str], found: Sequence[FileEvaluation]) -> None:
    """Raises DataError unless both answer the same question about the same rows."""
    one, other = found
    both = f"{names[0]} and {names[1]}"
    if set(one.known.class_names) != set(other.known.class_names):
        raise DataError(f"{both} have other labels: compare files of one task")
    if one.known.metric != other.known.metric:
        raise DataError(
            f"{both} are measured by {one.metric} and {other.metric}: name one metric for both (--metric)"
        )
    for place, what in ((0, "rows"), (1, "labels")):
        if [_asked(row)[place] for row in one.rows] != [_asked(row)[place] for row in other.rows]:
            raise DataError(f"{both} read other {what} of {one.source}: compare them without --max-rows")


def _asked(row: Any) -> tuple[int, Any]:
    expected = row.expected
    return row.row, sorted(expected, key=str) if isinstance(expected, list) else expected


def _difference(found: Sequence[FileEvaluation], seed: int) -> Difference:
    """By rows where the metric is a mean over them, else by resampling whole scores."""
    values = [one.known.row_values(one.logits, one.targets) for one in found]
    if values[0] is not None and values[1] is not None:
        return paired_difference(values[0], values[1], seed=seed)

    first, second = (one.known.scorer(one.logits, one.targets) for one in found)
    num_rows = len(found[0].rows)
    return paired_score_difference(first, second, num_rows, samples=_SAMPLES_OF_SCORES, seed=seed)


def _parted(found: Comparison) -> Comparison:
    """With the rows that one file alone gets right."""
    one, other = found.first.judged, found.second.judged
    if one.right is None or other.right is None:
        return found
    agreement = agreement_of(one.right, other.right)
    rows = tuple(
        Parted(
            found.first.rows[row].row,
            found.first.texts[row],
            one.wanted[row],
            one.told[row],
            other.told[row],
            found.names[int(other.right[row])],
        )
        for row in np.flatnonzero(one.right != other.right).tolist()
    )
    p_value = mcnemar(agreement.only_first, agreement.only_second)
    return replace(found, agreement=agreement, p_value=p_value, rows=rows)
