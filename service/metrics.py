"""Every metric of the service, in one table; the call sites use the attributes of `Metrics`, never names.

Each application has its own registry, so that several can live in one process (tests do). Series by task are
capped: the first `max_tasks` tasks that are asked get their own, all others share `other`; a deleted task's
series go away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

# The switch of the library is global: no second series with the time at which each was created.
disable_created_metrics()  # type: ignore[no-untyped-call]

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (16, 64, 256, 1024, 4096, 16384, 65536)

# kind, attribute, name, help, label names, buckets
_TABLE: tuple[tuple[str, str, str, str, tuple[str, ...], tuple[float, ...]], ...] = (
    ("counter", "requests", "requests_total", "HTTP requests by route and status.", ("route", "status"), ()),
    ("histogram", "latency", "request_seconds", "Time from headers to answer.", ("route",), _LATENCY_S),
    ("counter", "predictions", "predictions_total", "Answers given, by task.", ("task",), ()),
    ("counter", "item_errors", "item_errors_total", "Inputs without an answer, by reason.", ("code",), ()),
    ("counter", "rejected", "rejected_total", "Requests refused before any work, by reason.", ("code",), ()),
    ("counter", "non_finite", "non_finite_total", "Answers withheld: logits not finite.", (), ()),
    ("counter", "cancelled", "cancelled_total", "Requests dropped because the client left.", (), ()),
    ("counter", "device_failures", "device_failures_total", "Failed passes, by reason.", ("code",), ()),
    ("counter", "uploads", "uploads_total", "Uploads by outcome.", ("outcome",), ()),
    ("counter", "passes", "passes_total", "Batches: mixed, exclusive or generate.", ("kind",), ()),
    ("histogram", "batch_rows", "batch_rows", "Rows per forward pass.", (), _ROWS),
    ("histogram", "batch_tokens", "batch_tokens", "Tokens per forward pass.", (), _TOKENS),
    ("histogram", "batch_adapters", "batch_adapters", "Distinct adapters per forward pass.", (), _ROWS),
    ("histogram", "compute", "compute_seconds", "Time of a forward pass.", (), _LATENCY_S),
    ("histogram", "wait", "queue_seconds", "Time from admission to the first pass.", (), _LATENCY_S),
    ("histogram", "tokenize", "tokenize_seconds", "Time to tokenise a chunk of texts.", (), _LATENCY_S),
    ("histogram", "load", "adapter_load_seconds", "Time from bytes to a checked adapter.", (), _LATENCY_S),
    ("gauge", "waiting_rows", "waiting_rows", "Rows that wait for the device.", (), ()),
    ("gauge", "waiting_tokens", "waiting_tokens", "Tokens that wait for the device.", (), ()),
    ("gauge", "open_requests", "open_requests", "Predict calls that are not finished.", (), ()),
    ("gauge", "resident_adapters", "resident_adapters", "Adapters on the device.", (), ()),
    ("gauge", "resident_bytes", "resident_bytes", "Device memory of the adapters.", (), ()),
)


class CounterRow:
    """A counter with at most one label."""

    def __init__(self, counter: Counter, label_names: tuple[str, ...]) -> None:
        self._counter, self._labelled = counter, bool(label_names)
        self._children: dict[tuple[str, ...], Counter] = {}

    def inc(self, *labels: str, by: int = 1) -> None:
        """Count `by` more; `labels` in the order of the table."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = (
                self._counter.labels(*labels) if self._labelled else self._counter
            )
        child.inc(by)

    def remove(self, *labels: str) -> None:
        """Delete the series of a label value that is gone."""
        if self._children.pop(labels, None) is not None:
            self._counter.remove(*labels)


class HistogramRow:
    """A histogram with at most one label."""

    def __init__(self, histogram: Histogram, label_names: tuple[str, ...]) -> None:
        self._histogram, self._labelled = histogram, bool(label_names)
        self._children: dict[tuple[str, ...], Histogram] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Record one value; `labels` in the order of the table."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = (
                self._histogram.labels(*labels) if self._labelled else self._histogram
            )
        child.observe(value)


class GaugeRow:
    """A value that is read when somebody looks."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def read_from(self, source: Callable[[], float]) -> None:
        """Ask `source` at every scrape."""
        self._gauge.set_function(source)


class Metrics:
    """The rows of the table as attributes, and the few helpers that record several at once."""

    requests: CounterRow
    predictions: CounterRow
    item_errors: CounterRow
    rejected: CounterRow
    non_finite: CounterRow
    cancelled: CounterRow
    device_failures: CounterRow
    uploads: CounterRow
    passes: CounterRow
    latency: HistogramRow
    batch_rows: HistogramRow
    batch_tokens: HistogramRow
    batch_adapters: HistogramRow
    compute: HistogramRow
    wait: HistogramRow
    tokenize: HistogramRow
    load: HistogramRow
    waiting_rows: GaugeRow
    waiting_tokens: GaugeRow
    open_requests: GaugeRow
    resident_adapters: GaugeRow
    resident_bytes: GaugeRow

    def __init__(self, *, max_tasks: int = 100) -> None:
        self._registry = CollectorRegistry()
        self._max_tasks = max_tasks
        self._tasks: set[str] = set()
        for kind, attribute, name, help_text, labels, buckets in _TABLE:
            setattr(self, attribute, self._row(kind, f"trunkline_{name}", help_text, labels, buckets))

    def _row(
        self, kind: str, name: str, help_text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> CounterRow | HistogramRow | GaugeRow:
        if kind == "counter":
            return CounterRow(Counter(name, help_text, labels, registry=self._registry), labels)
        if kind == "histogram":
            return HistogramRow(
                Histogram(name, help_text, labels, buckets=buckets, registry=self._registry), labels
            )
        return GaugeRow(Gauge(name, help_text, registry=self._registry))

    def count_predictions(self, task: str, num_answers: int) -> None:
        """Count answers of a task, under its own name while there is room for it."""
        if task not in self._tasks and len(self._tasks) < self._max_tasks:
            self._tasks.add(task)
        self.predictions.inc(task if task in self._tasks else "other", by=num_answers)

    def forget_task(self, task: str) -> None:
        """Delete the series of a deleted task; another one may take its place."""
        if task in self._tasks:
            self._tasks.discard(task)
            self.predictions.remove(task)

    def observe_batch(
        self, *, kind: str, rows: int, tokens: int, adapters: int, seconds: float, waits_s: Sequence[float]
    ) -> None:
        """Record one batch."""
        self.passes.inc(kind)
        self.batch_rows.observe(rows)
        self.batch_tokens.observe(tokens)
        self.batch_adapters.observe(adapters)
        self.compute.observe(seconds)
        for wait_s in waits_s:
            self.wait.observe(wait_s)

    def render(self) -> bytes:
        """The text format that Prometheus reads."""
        return generate_latest(self._registry)
