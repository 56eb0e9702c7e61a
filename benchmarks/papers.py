"""The papers' trainable shares beside ours, counted from the architectures alone.

Compacter (arXiv 2106.04647), its tables for T5-base and T5-small; the share is of the whole model, the head
frozen. Hadamard adapter (arXiv 2407.11033): the share of BERT-base, all layers and two thirds of them.
"""

from dataclasses import dataclass, field
from typing import Any

from benchmarks import tables
from modeling import METHODS
from modeling.counts import architecture as config_of
from modeling.counts import count, empty_model


@dataclass(frozen=True)
class Row:
    """A line of a paper's table: a method with its options, and the printed percentage."""

    method: str
    printed: str
    options: dict[str, Any] = field(default_factory=dict)


def _t5(*printed: str, largest: int) -> tuple[Row, ...]:
    """The lines of one of Compacter's tables; `largest` is the biggest division that fits the model."""
    divided = [(m, {"division": n}) for m in ("phm", "compacter", "compacter_pp") for n in (4, 8, largest)]
    names = [*((name, dict[str, int]()) for name in _PLAIN), *divided]
    return tuple(Row(name, text, options) for (name, options), text in zip(names, printed, strict=True))


_PLAIN = (
    *("full", "houlsby", "pfeiffer", "adapter_drop", "low_rank_adapter"),
    *("prompt_tuning", "intrinsic_said", "bitfit"),
)
_BASE = "100 0.832 0.427 0.494 0.073 0.034 0.009 0.126 0.239 0.160 0.179 0.073 0.073 0.073 0.047 0.047 0.048"
_SMALL = "100 0.698 0.363 0.139 0.090 0.085 0.033 0.190 0.216 0.170 0.414 0.090 0.091 0.097 0.059 0.059 0.065"
_WITH_OUTPUT_LAYER = (  # Table 7
    Row("houlsby", "11.89", {"train_output_layer": True}),
    Row("bitfit", "11.19", {"train_output_layer": True}),
    Row("compacter", "11.13", {"train_output_layer": True, "division": 4}),
)
PAPERS: dict[str, tuple[Row, ...]] = {
    "t5-base": (*_t5(*_BASE.split(), largest=12), *_WITH_OUTPUT_LAYER),
    "t5-small": _t5(*_SMALL.split(), largest=16),
    "bert-base": (
        Row("hadamard", "0.033"),
        Row("hadamard", "0.022", {"layers": "last-two-thirds"}),
    ),
}


def shares(architecture: str) -> list[tuple[Row, int, float]]:
    """Each line with our count and our percentage. Raises KeyError for a model of neither paper."""
    config = config_of(architecture)
    model = empty_model(config)
    found = []
    for row in PAPERS[architecture]:
        counted = count(METHODS[row.method].from_config(row.options), config, model)
        found.append((row, counted.parameters, counted.share_percent))
    return found


def table(architecture: str) -> str:
    """Method, options, trained parameters, our percentage, the printed one."""
    rows = []
    for row, parameters, share in shares(architecture):
        options = ", ".join(f"`{name}={value}`" for name, value in row.options.items())
        rows.append([f"`{row.method}`", options, f"{parameters:,}", f"{share:.4f} %", f"{row.printed} %"])
    head = ("method", "options", "trained parameters", "share", "in the paper")
    return tables.table(head, rows, num_names=2)
