"""The metrics table: caps on labels, removal, and one place for names."""

from __future__ import annotations

from service.metrics import Metrics
from tests.unit.service.fakes import value_of


def test_tasks_beyond_the_cap_share_one_series() -> None:
    metrics = Metrics(max_tasks=2)
    for task in ("a", "b", "c", "d", "a"):
        metrics.count_predictions(task, 10)
    assert value_of(metrics, 'trunkline_predictions_total{task="a"}') == 20
    assert value_of(metrics, 'trunkline_predictions_total{task="b"}') == 10
    assert value_of(metrics, 'trunkline_predictions_total{task="other"}') == 20
    assert 'task="c"' not in metrics.render().decode()


def test_a_deleted_task_leaves_no_series_and_frees_its_place() -> None:
    metrics = Metrics(max_tasks=1)
    metrics.count_predictions("a", 1)
    metrics.forget_task("a")
    metrics.forget_task("never seen")
    assert 'task="a"' not in metrics.render().decode()
    metrics.count_predictions("b", 3)
    assert value_of(metrics, 'trunkline_predictions_total{task="b"}') == 3


def test_gauges_are_read_when_somebody_looks() -> None:
    metrics = Metrics()
    value = 1.0
    metrics.waiting_rows.set_function(lambda: value)
    assert value_of(metrics, "trunkline_waiting_rows") == 1
    value = 2.0
    assert value_of(metrics, "trunkline_waiting_rows") == 2


def test_two_applications_in_one_process_do_not_mix() -> None:
    first, second = Metrics(), Metrics()
    first.cancelled.inc()
    assert value_of(first, "trunkline_cancelled_total") == 1
    assert value_of(second, "trunkline_cancelled_total") == 0


def test_names_follow_the_rules_of_prometheus() -> None:
    metrics = Metrics()
    for line in metrics.render().decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name.startswith("trunkline_")
            assert name.endswith("_total") == (kind == "counter")
