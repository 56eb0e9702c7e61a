"""The demo's parts: it stops its server whatever happens, and notices when something is off."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from trunkline import Prediction

# A server that is ready at once and ends on SIGTERM with the status given to it.
STUB = """
import signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"status": "ready"}')

signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[2])))
print("listening", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def stub_server(log: Path, exit_status: int) -> Any:
    demo_server = importlib.import_module("demo_server")
    port = demo_server.free_port()
    command = [sys.executable, "-c", STUB, str(port), str(exit_status)]
    return demo_server.Server(command, f"http://127.0.0.1:{port}", log)


def demo_error() -> type[Exception]:
    error: type[Exception] = importlib.import_module("demo_server").DemoError
    return error


def test_server_is_stopped_after_the_block(tmp_path: Path) -> None:
    with stub_server(tmp_path / "log", 0) as server:
        process = server._process
        assert process.poll() is None
    assert process.returncode == 0


def test_server_is_stopped_when_the_block_is_interrupted(tmp_path: Path) -> None:
    server = stub_server(tmp_path / "log", 0)
    with pytest.raises(KeyboardInterrupt), server:
        raise KeyboardInterrupt
    assert server._process.returncode == 0


def test_a_bad_end_of_the_server_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(demo_error(), match="status 3"), stub_server(tmp_path / "log", 3):
        pass


def test_the_error_of_the_block_goes_before_a_bad_end(tmp_path: Path) -> None:
    with pytest.raises(LookupError), stub_server(tmp_path / "log", 3):
        raise LookupError("the block's own")


def test_a_server_that_does_not_start_is_an_error_with_its_log(tmp_path: Path) -> None:
    demo_server = importlib.import_module("demo_server")
    command = [sys.executable, "-c", "import sys; sys.exit('no store here')"]
    server = demo_server.Server(command, f"http://127.0.0.1:{demo_server.free_port()}", tmp_path / "log")
    with pytest.raises(demo_error(), match=r"status 1\)[\s\S]*no store here"), server:
        pass


def test_settings_of_this_machine_do_not_reach_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_TOKEN", "somebody-elses")
    assert "TRUNKLINE_TOKEN" not in importlib.import_module("demo_server").own_environment()


def test_random_requests_ask_every_row_once_and_mix_the_tasks() -> None:
    held_out = importlib.import_module("demo_held_out")
    requests = held_out.random_requests({"one": 40, "other": 25}, seed=1)
    for task, count in (("one", 40), ("other", 25)):
        assert sorted(row for name, rows in requests for row in rows if name == task) == list(range(count))
    assert max(len(rows) for _, rows in requests) <= held_out.MAX_ROWS_PER_REQUEST
    order = [task for task, _ in requests]
    assert order != sorted(order), "the tasks take turns"


def evaluation(metric: str, value: float, rows: list[Any]) -> Any:
    return SimpleNamespace(task="some", metric=metric, value=value, rows=tuple(rows))


def offline_row(row: int, label: str, logits: list[float]) -> Any:
    return SimpleNamespace(row=row, label=label, expected=label, logits=logits)


def test_a_differing_logit_is_found_and_its_row_named() -> None:
    held_out = importlib.import_module("demo_held_out")
    tolerance = held_out.Tolerance(atol=1e-5, rtol=1e-5)
    offline = evaluation("accuracy", 1.0, [offline_row(1, "a", [2.0, 1.0]), offline_row(2, "a", [2.0, 1.0])])
    served = [
        Prediction("some", label="a", logits=[2.0, 1.0]),
        Prediction("some", label="a", logits=[2.0, 1.00001]),
    ]
    assert held_out.largest_difference(offline, served, tolerance) == pytest.approx(1e-5)
    served[1] = Prediction("some", label="a", logits=[2.0, 1.01])
    with pytest.raises(demo_error(), match="row 2: logits"):
        held_out.largest_difference(offline, served, tolerance)
    served[1] = Prediction("some", label="a", logits=[2.0, float("nan")])
    with pytest.raises(demo_error(), match="row 2: logits"):
        held_out.largest_difference(offline, served, tolerance)


def test_a_differing_answer_is_found() -> None:
    held_out = importlib.import_module("demo_held_out")
    offline = evaluation("accuracy", 1.0, [offline_row(1, "a", [2.0])])
    with pytest.raises(demo_error(), match="'b' over HTTP, 'a' offline"):
        held_out.largest_difference(
            offline, [Prediction("some", label="b", logits=[2.0])], held_out.Tolerance(1e-5, 1e-5)
        )


@pytest.mark.parametrize(
    ("metric", "expected", "served", "value"),
    [
        ("accuracy", ["a", "b"], [Prediction("t", label="a"), Prediction("t", label="a")], 0.5),
        ("micro_f1", [["a"], []], [Prediction("t", label=["a", "b"]), Prediction("t", label=[])], 2 / 3),
        ("pearson_spearman", [1.0, 2.0, 3.0], [Prediction("t", score=s) for s in (2.0, 4.0, 6.0)], 1.0),
    ],
)
def test_metrics_from_answers(
    metric: str, expected: list[Any], served: list[Prediction], value: float
) -> None:
    held_out = importlib.import_module("demo_held_out")
    rows = [SimpleNamespace(expected=truth) for truth in expected]
    assert held_out.check_metric(evaluation(metric, value, rows), served) == pytest.approx(value)
    with pytest.raises(demo_error(), match=metric):
        held_out.check_metric(evaluation(metric, value - 0.01, rows), served)


def report(score: float, baseline: float | None, metric: str = "accuracy") -> Any:
    tables = importlib.import_module("demo_tables")
    return tables.TaskReport("some", 10, ((metric, score, baseline),), 47_000, 9_216, 770, 22_000_000)


def test_a_task_that_learned_nothing_is_an_error() -> None:
    demo = importlib.import_module("demo")
    demo.check_learned([report(0.8, 0.5), report(1.2, 2.0, "mae"), report(0.7, None, "pearson_spearman")])
    with pytest.raises(demo_error(), match="learned nothing"):
        demo.check_learned([report(0.5, 0.5)])
    with pytest.raises(demo_error(), match="learned nothing"):
        demo.check_learned([report(2.1, 2.0, "mae")])


def printed(table: object) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_tables_show_answers_of_every_kind() -> None:
    tables = importlib.import_module("demo_tables")
    pair = ("one", "two")
    asked = [
        tables.Asked("single", "a text", Prediction("intents", label="refund_request", score=0.91)),
        tables.Asked("batch", pair, Prediction("duplicates", label="different", score=0.77)),
        tables.Asked("all at once", "mail [1]", Prediction("urgency", score=7.25)),
        tables.Asked("all at once", "mail [1]", Prediction("tags", label=[], score=0.1)),
    ]
    shown = printed(tables.answers_table(asked))
    for part in ("refund_request", "0.91", "different", "7.25", "(no tag)", "[1]"):
        assert part in shown
    assert shown.count("mail") == 1, "a text stands once for all its tasks"
    shown = printed(tables.scores_table([report(0.8, 0.5)]))
    for part in ("0.800", "0.500", "47.0 kB", "9,216", "0.042%", "22,000,000", "770"):
        assert part in shown


def test_messages_of_the_demo_stand_in_no_data_file(demo_folder_on_path: Path) -> None:
    messages = importlib.import_module("demo_messages")
    asked = {messages.SINGLE, *messages.MAILS}
    pairs = {frozenset(pair) for pair in messages.PAIRS}
    for path in demo_folder_on_path.glob("*/*.jsonl"):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            assert asked.isdisjoint(str(value) for value in row.values())
            assert frozenset((row.get("ticket1"), row.get("ticket2"))) not in pairs
