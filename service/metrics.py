"""Every metric of the service, in one table; the call sites use the attributes of `Metrics`, never names.

Each application has its own registry, so that several can live in one process (tests do). Series by task are
capped: the first `max_tasks` tasks that are asked get their own, all others share `other`; a deleted task's
series go away.
"""

from __future__ import annotations

from functools import partial

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


class Metrics:
    """The table: name, meaning, labels, buckets of each metric."""

    def __init__(self, *, max_tasks: int = 100) -> None:
        self._registry = CollectorRegistry()
        self._max_tasks = max_tasks
        # Series that requests count in, so that none looks its labels up again.
        self._tasks: dict[str, Counter] = {}
        self._routes: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        counter = partial(Counter, namespace="trunkline", registry=self._registry)
        gauge = partial(Gauge, namespace="trunkline", registry=self._registry)
        histogram = partial(Histogram, namespace="trunkline", registry=self._registry)
        timer = partial(histogram, buckets=_LATENCY_S)
        self.requests = counter("requests_total", "HTTP requests by route and status.", ("route", "status"))
        self.latency = timer("request_seconds", "Time from headers to answer.", ("route",))
        self.predictions = counter("predictions_total", "Answers given, by task.", ("task",))
        self.item_errors = counter("item_errors_total", "Inputs without an answer, by reason.", ("code",))
        self.rejected = counter("rejected_total", "Requests refused before any work, by reason.", ("code",))
        self.non_finite = counter("non_finite_total", "Answers withheld: logits not finite.")
        self.cancelled = counter("cancelled_total", "Requests dropped because the client left.")
        self.device_failures = counter("device_failures_total", "Failed passes, by reason.", ("code",))
        self.uploads = counter(
            "uploads_total", "Uploads by outcome: created, known, refused, failed, withdrawn.", ("outcome",)
        )
        self.passes = counter("passes_total", "Batches: mixed, exclusive or generate.", ("kind",))
        self.batch_rows = histogram("batch_rows", "Rows per forward pass.", buckets=_ROWS)
        self.batch_tokens = histogram("batch_tokens", "Tokens per forward pass.", buckets=_TOKENS)
        self.batch_adapters = histogram(
            "batch_adapters", "Distinct adapters per forward pass.", buckets=_ROWS
        )
        self.compute = timer("compute_seconds", "Time of a forward pass.")
        self.wait = timer("queue_seconds", "Time from admission to the first pass.")
        self.tokenize = timer("tokenize_seconds", "Time to tokenise a chunk of texts.")
        self.load = timer("adapter_load_seconds", "Time from bytes to a checked adapter.")
        self.waiting_rows = gauge("waiting_rows", "Rows that wait for the device.")
        self.waiting_tokens = gauge("waiting_tokens", "Tokens that wait for the device.")
        self.open_requests = gauge("open_requests", "Predict calls that are not finished.")
        self.fronts = gauge("fronts", "Front processes that are linked to the device process; 0 without any.")
        self.front_calls = counter("front_calls_total", "Predict calls that fronts took off the wire.")
        self.front_restarts = counter("front_restarts_total", "Front processes that ended unasked.")
        self.resident_adapters = gauge("resident_adapters", "Adapters on the device.")
        self.resident_bytes = gauge("resident_bytes", "Device memory of the adapters.")
        self.recorded_passes = gauge("recorded_passes", "Passes that a GPU has recorded so far; 0 on a CPU.")

    def count_predictions(self, task: str, num_answers: int) -> None:
        """Count answers of a task, under its own name while there is room for it."""
        series = self._tasks.get(task)
        if series is None:
            has_room = len(self._tasks) < self._max_tasks
            series = self.predictions.labels(task if has_room else "other")
            if has_room:
                self._tasks[task] = series
        series.inc(num_answers)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        series = self._routes.get((route, status))
        if series is None:
            series = self._routes[route, status] = (
                self.requests.labels(route, status),
                self.latency.labels(route),
            )
        series[0].inc()
        series[1].observe(seconds)

    def forget_task(self, task: str) -> None:
        """Delete the series of a deleted task; another one may take its place."""
        if self._tasks.pop(task, None) is not None:
            self.predictions.remove(task)

    def render(self) -> bytes:
        """The text format that Prometheus reads."""
        return generate_latest(self._registry)
