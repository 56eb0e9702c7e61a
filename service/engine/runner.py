"""One batch on the device, and what to do when it fails: halve it, so that one poisoned row fails alone.

Knows the order of rows and reads; it knows nothing of queues, jobs or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from .request import Logits, Row

if TYPE_CHECKING:
    from modeling import Encoded, EncodedRow, PackedAdapter, Placement

# A batch that fails for every row (a lost device) is not halved for ever: failing passes allowed per batch.
MAX_FAILURES = 64


class Model(Protocol):
    """What the device thread, which alone calls it, needs of `modeling.ServedModel`."""

    def install(self, packed: PackedAdapter) -> int: ...
    def install_all(self, many: Sequence[PackedAdapter]) -> list[int]: ...
    def remove(self, slot: int) -> None: ...
    def placement(self, slot: int) -> Placement: ...
    def run(
        self, encoded: Sequence[EncodedRow], body_slots: Sequence[int], reads: Sequence[tuple[int, int]]
    ) -> list[Logits]: ...
    def generate(
        self, encoded: Sequence[Encoded], body_slots: Sequence[int], max_new_tokens: int
    ) -> list[str]: ...


class RowFailure(Exception):  # noqa: N818 - an outcome, not raised through layers
    """One row that cannot be answered, after everything around it was taken away."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


Outcome = Sequence[Logits | str] | RowFailure
"""Per row: one array, or the generated text, for each column that reads it; or why there is none."""

OnFailure = Callable[[str, Exception, Sequence[Row]], None]


def run_rows(model: Model, rows: Sequence[Row], on_failure: OnFailure) -> list[Outcome]:
    """Run a batch; a failing one is halved until the rows that cause it stand alone.

    `on_failure` is told of every pass that failed: code (`out_of_memory`, `internal`), error, rows.
    """
    outcomes: list[Outcome] = []
    left, num_failures = [rows], 0  # the parts that are still to run, the first one last
    while left:
        part = left.pop()
        try:
            outcomes += _run_once(model, part)
            continue
        except Exception as error:
            failure = _failure_of(error)
            on_failure(failure.code, error, part)
        num_failures += 1
        if len(part) == 1 or num_failures >= MAX_FAILURES:
            outcomes += [failure] * len(part)
        else:
            middle = len(part) // 2
            left += [part[middle:], part[:middle]]
    return outcomes


def _run_once(model: Model, rows: Sequence[Row]) -> list[Outcome]:
    body_slots = [row.body_slot for row in rows]
    max_new_tokens = rows[0].job.max_new_tokens  # the same for all: they are of one group
    if max_new_tokens:
        alone = [part for row in rows for part in row.encoded.parts]  # a decoder reads one sequence a row
        texts = model.generate(alone, body_slots, max_new_tokens)
        assert len(texts) == len(rows), "the model generated for other rows than it was given; this is a bug"
        return [[text] * len(row.slots) for text, row in zip(texts, rows, strict=True)]
    reads = [(i, slot) for i, row in enumerate(rows) for slot in row.slots]
    logits = model.run([row.encoded for row in rows], body_slots, reads)
    assert len(logits) == len(reads), "the model answered other reads than it was asked; this is a bug"
    outcomes: list[Outcome] = []
    start = 0
    for row in rows:
        outcomes.append(logits[start : start + len(row.slots)])
        start += len(row.slots)
    return outcomes


def _failure_of(error: Exception) -> RowFailure:
    if is_out_of_memory(error):
        message = "the device has not enough memory for this input, even alone; send a shorter one"
        return RowFailure("out_of_memory", message)
    told = f"({type(error).__name__}); the request id identifies the server's log line"
    return RowFailure("internal", f"this input could not be computed {told}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of any device says that memory ran out; no device library is imported to ask."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
