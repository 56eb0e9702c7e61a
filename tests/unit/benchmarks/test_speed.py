"""Benchmarks of speed on tiny settings: who is asked for what, what is compared, what a page says of it."""

import argparse
import asyncio
import gzip
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bare_backbone, http_load, http_peers, others, performance, pictures, real_texts, record
from benchmarks import residency as residency_of
from benchmarks.http_load import Answered, Connection
from benchmarks.peers import engines, serving
from tests.tiny import minilm

ORIGIN = {"commit": "abc", "cores": 2, "date": "2026-01-02", "gpu": None, "processor": "Chip", "threads": 1}
QUIET = {"origin": ORIGIN, "rounds": 3, "others_busy_cores": 0.02, "disturbed": False}


def _ratio(median: float) -> dict[str, float]:
    return {"median": median, "q1": median - 0.1, "q3": median + 0.1}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six sets of a few short texts, and one that is long."""
    for name in real_texts.SETS:
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "dataset.json").write_text(json.dumps({"text_fields": ["sentence"]}))
        texts = [f"{name} {'word ' * (1 + i % 7)}" for i in range(12)] + ["word " * 500]
        with gzip.open(folder / "train.jsonl.gz", "wt") as out:
            out.writelines(json.dumps({"sentence": text}) + "\n" for text in texts)
    return tmp_path / "data"


def test_texts_are_of_all_sets_and_none_is_longer_than_wanted(data: Path) -> None:
    found = real_texts.read(data, random.Random(0), 18, max_words=20)
    assert len(found) == 18
    assert {text.split()[0] for text in found} == set(real_texts.SETS)
    assert max(len(text.split()) for text in found) <= 8


def test_rows_in_pieces_are_answered_in_their_own_order() -> None:
    def run(rows: engines.Ids) -> engines.Floats:
        ids, mask = engines.padded(rows)
        return engines.mean_of(ids[..., None].astype(np.float32), mask)

    rng = random.Random(0)
    rows = [[rng.randrange(1, 99) for _ in range(rng.randrange(1, 9))] for _ in range(23)]
    wanted = np.array([[np.mean(row)] for row in rows])
    for size in (1, 4, 23, 100):
        np.testing.assert_allclose(engines.in_pieces(run, rows, size), wanted, rtol=1e-6)


def test_a_peer_gets_the_size_of_pieces_that_is_quickest(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    clock = iter(range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))  # every look takes a second

    def run(rows: engines.Ids) -> engines.Floats:
        asked.append(len(rows))
        for _ in range(abs(len(rows) - 8)):
            next(clock)
        return np.zeros((len(rows), 1), np.float32)

    best = engines.quickest(run, [[[1]] * 16], engines.PIECES)
    asked.clear()
    best([[1]] * 16)
    assert asked == [8, 8]


def test_loads_are_real_rows_and_rows_of_equal_length() -> None:
    texts = [[101, 7, number, 102] for number in range(10)]
    found = bare_backbone.loads(texts, {1: 2, 4: 1}, (5,))
    assert found["1 rows"] == [[texts[0]], [texts[1]]]
    assert found["4 rows"] == [texts[2:6]]
    (equal,) = found["8 rows of 5 tokens"]
    assert {(len(row), row[0], row[-1]) for row in equal} == {(5, 101, 102)}
    assert len(equal) == bare_backbone.EQUAL_ROWS


def test_bfloat16_is_compared_with_bfloat16_alone() -> None:
    names = ("ours float32", "ours bfloat16", "hf padded", "openvino bfloat16")
    found = bare_backbone.ratios({"1 rows": {name: [1.0 + i] * 3 for i, name in enumerate(names)}})
    assert {name: one["median"] for name, one in found.items()} == {
        "1 rows: ours float32 / hf padded": 3.0,
        "1 rows: ours bfloat16 / openvino bfloat16": 2.0,
        "1 rows: ours bfloat16 / ours float32": 0.5,
    }


def test_states_that_differ_are_not_compared(tmp_path: Path) -> None:
    class Side:
        def __init__(self, name: str, gap: float) -> None:
            self.name, self.gap = name, gap

        def states(self, load: str, out: Path) -> Any:
            return np.full((2, 3), self.gap)

    def gaps(*sides: Side) -> dict[str, float]:
        return bare_backbone.differences(sides, ["1 rows"], tmp_path)  # type: ignore[arg-type]

    exact = Side("hf padded", 0.0)
    assert gaps(exact, Side("openvino bfloat16", 0.02)) == {"hf padded": 0.0, "openvino bfloat16": 0.02}
    with pytest.raises(RuntimeError, match="'onnxruntime': 0.001"):
        gaps(exact, Side("onnxruntime", 1e-3))


def test_bare_backbone_runs(data: Path) -> None:
    words = ["--rows", "1", "--tokens", "5", "--rounds", "2", "--data", str(data)]
    args = bare_backbone.options().parse_args([*words, "--side", "ours float32", "hf padded"])
    result = bare_backbone.measure(args)
    assert 0 < result["largest_difference"]["ours float32"] < bare_backbone.TOLERANCE
    assert set(result["throughput_ratios"]) == {
        "1 rows: ours float32 / hf padded",
        "8 rows of 5 tokens: ours float32 / hf padded",
    }
    assert sum(result["passes"]["ours float32"].values()) > 0


class Site:
    """A server that knows one answer, and counts."""

    def __init__(self, status: str = "200 OK") -> None:
        self.count, self._status = 0, status

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            length = 0
            while head.strip():
                name, _, value = head.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                head = await reader.readline()
            await reader.readexactly(length)
            await asyncio.sleep(0.005)
            self.count += 1
            writer.write(f"HTTP/1.1 {self._status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        writer.close()
        await writer.wait_closed()


@contextmanager
def _serving(site: Site) -> Iterator[int]:
    """The port where it answers, in a thread of its own."""
    told: Future[tuple[int, Callable[[], object]]] = Future()

    async def run() -> None:
        end, loop = asyncio.Event(), asyncio.get_running_loop()
        server = await asyncio.start_server(site.answer, "127.0.0.1", 0)
        told.set_result((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(end.set)))
        await end.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    port, end = told.result(10)
    try:
        yield port
    finally:
        end()
        thread.join()


def test_every_answer_counts_and_a_refusal_is_told() -> None:
    requests = [http_load.post("/x", {"n": number}) for number in range(3)]
    site = Site()
    with _serving(site) as port:
        closed = asyncio.run(http_load.closed(port, requests, 3, 0.2))
        assert len(closed.took_s) == site.count >= 3
        assert closed.per_s == pytest.approx(site.count / closed.all_s)
        opened = asyncio.run(http_load.open_loop(port, requests, 100.0, 0.3, 0))
        assert len(opened.took_s) == site.count - len(closed.took_s)
        assert 10 <= len(opened.took_s) <= 60  # 30 are expected
    with _serving(Site("422 no")) as port, pytest.raises(RuntimeError, match="422"):
        asyncio.run(_asked(port, requests[0]))


async def _asked(port: int, request: bytes) -> None:
    connection = await Connection.to(port)
    try:
        await connection.ask(request)
    finally:
        await connection.close()


def test_a_round_asks_both_sides_for_every_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_peers, "HALF_OF", 2)
    peer = http_peers.PEERS["pipeline"]
    with _serving(Site()) as ours, _serving(Site()) as theirs:
        sides = [
            http_peers.Side("ours", ours, 0, http_peers.requests_of(peer, ["a", "b"], (1, 64))),
            http_peers.Side("them", theirs, 0, http_peers.requests_of(peer, ["a", "b"], (1,))),
        ]
        found = [http_peers.one_round(sides, (2,), 0.1, turn) for turn in range(2)]
    result = http_peers.told(found, "them", (1,))
    assert set(result["requests_per_s"]) == {
        f"{who}, {tasks} tasks, {load}"
        for who, tasks in (("ours", 1), ("ours", 64), ("them", 1))
        for load in ("2 connections", http_peers.OPEN)
    }
    assert set(result["throughput_ratios"]) == {
        "2 connections, 1 tasks: ours / them",
        "2 connections, 64 tasks: ours / them",
    }
    assert len(result["p99_ratios"]) == 4


def test_ratios_of_servers_are_above_one_where_ours_is_better() -> None:
    fast, slow = Answered([0.01] * 100, 1.0), Answered([0.04] * 50, 1.0)
    load = "1 connections"
    rounds = [{f"ours, 64 tasks, {load}": fast, f"x, 1 tasks, {load}": slow}] * 2
    result = http_peers.told(rounds, "x", (1,))
    assert result["throughput_ratios"][f"{load}, 64 tasks: ours / x"]["median"] == 2.0
    assert result["p99_ratios"][f"{load}, 64 tasks: ours / x"]["median"] == 4.0


def test_an_environment_that_was_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"infinity.*peers\.environments"):
        http_peers.PEERS["infinity"].argv(tmp_path, tmp_path / "model", 1)
    argv = http_peers.PEERS["peft mixed"].argv(tmp_path, tmp_path / "model", 8123)
    assert argv[1:] == [
        *("-m", "benchmarks.peers.serve_peft", "mixed"),
        *(str(tmp_path / "model"), "8123", "64"),
    ]


def test_rows_that_wait_go_through_a_model_together_and_a_fault_reaches_its_callers() -> None:
    began, go = threading.Event(), threading.Event()
    batches: list[list[str]] = []

    def answer(tasks: Any, texts: Any) -> list[str]:
        began.set()
        assert go.wait(10)
        batches.append(list(texts))
        if "bad" in texts:
            raise ValueError("bad text")
        return [f"{task}:{text}" for task, text in zip(tasks, texts, strict=True)]

    together = serving.Together(answer)
    first = together("t", "a")
    assert began.wait(10)
    waiting = [together("u", "b"), together("v", "c")]
    go.set()
    assert first.result(10) == "t:a"
    assert [one.result(10) for one in waiting] == ["u:b", "v:c"]
    assert batches == [["a"], ["b", "c"]]
    with pytest.raises(ValueError, match="bad text"):
        together("t", "bad").result(10)
    assert together("t", "d").result(10) == "t:d"


def test_the_work_of_children_of_a_process_is_its_own() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    try:
        found = {process.pid}
        for _ in range(10**5):
            found = others.with_children([process.pid])
            if len(found) > 1:
                break
        assert len(found) == 2
        assert process.pid in found
    finally:
        process.communicate(b"\n")
    assert others.with_children([process.pid]) == {process.pid}


@pytest.mark.parametrize("method", ["hadamard", "lora", "linear_probe"])
def test_what_a_task_takes_is_its_tensors_and_little_more(method: str) -> None:
    found = residency_of.memory(minilm(), method, 64)
    assert found["own_bytes"] > 3000
    assert 1 <= found["banks_and_heads_over_own"] <= 1.3
    sums = found["bank_bytes"] + found["head_bytes"] + found["other_bytes"]
    assert sums == pytest.approx(found["host_bytes"], abs=3)


def test_residency_compares_one_resident_with_many() -> None:
    found = residency_of.throughput("hadamard", 65, 2, batches_per_round=1)
    one, many = "hadamard, 64 rows with 1 resident", "hadamard, 64 rows with 65 resident"
    assert set(found) == {f"{one} / bare", f"{many} / bare", f"{many} / {one}"}


def test_methods_that_do_not_fit_are_left_out_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    assert residency_of.memories(["houlsby", "intrinsic_said"], [10_000], max_gib=1.0) == {}
    told = capsys.readouterr().out
    assert "houlsby, 10,000 tasks: left out" in told
    assert "intrinsic_said: left out" in told


RESULTS: dict[str, dict[str, Any]] = {
    "bare_backbone": {
        "1 thread": QUIET
        | {
            "round_ms": {"64 rows": {"hf padded": 5.0}},
            "largest_difference": {"hf padded": 0.0, "onnxruntime": 1e-6},
            "throughput_ratios": {
                "64 rows: ours float32 / hf padded": _ratio(2.5),
                "8 rows: ours float32 / hf padded": _ratio(1.5),
                "64 rows: ours float32 / onnxruntime": _ratio(3.5),
            },
        },
    },
    "residency": QUIET
    | {
        "others_busy_cores": 1.5,
        "disturbed": True,
        "memory": {"lora, 10 tasks": {"own_bytes": 10, "host_bytes": 11, "host_over_own": 1.1}},
        "throughput_ratios": {"many / one": _ratio(0.97)},
    },
    "mixed_batch": {"origin": ORIGIN, "throughput_ratios": {"a / b": _ratio(0.5)}},
}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of result files."""
    folder = tmp_path / "results"
    monkeypatch.setattr(record, "RESULTS", folder)
    for name, payload in RESULTS.items():
        record.write(name, payload)
    return folder


def test_the_page_tells_of_every_result_and_of_none_that_is_missing(results: Path) -> None:
    text = performance.page()
    assert "| throughput of A / B | ours float32 / hf padded | ours float32 / onnxruntime |" in text
    assert text.index("| 8 rows | 1.50 |  |") < text.index("| 64 rows | 2.50 | 3.50 |")
    assert "Chip, 2 cores, 1 thread; commit abc; 2026-01-02; 3 rounds; quiet: others had 0.02 cores." in text
    assert "**disturbed: others had 1.50 cores**" in text
    assert "| lora, 10 tasks | 10 |  |  |  | 11 | 1.10 |" in text
    assert "how much others worked is not told" in text
    missing = text.rpartition("Not measured yet: ")[2]
    assert "`http_peers`" in missing
    assert "`residency`" not in missing
    for path in results.glob("*.json"):
        path.unlink()
    assert performance.page().startswith("Not measured yet: `bare_backbone`")


def test_every_picture_of_the_page_is_drawn_and_the_same_again(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "IMAGES", tmp_path / "docs" / "images")
    named = {name for name in performance.NAMES if f"images/{name}.svg" in performance.page()}
    drawn = {path.stem: path.read_bytes() for path in map(pictures.ratios, performance.NAMES) if path}
    assert set(drawn) == named == set(RESULTS)
    assert b"ours float32 / onnxruntime" in drawn["bare_backbone"]
    again = {path.stem: path.read_bytes() for path in map(pictures.ratios, performance.NAMES) if path}
    assert again == drawn


def test_options_of_all_of_them_are_told() -> None:
    for parser in (bare_backbone.options(), residency_of.options()):
        assert isinstance(parser, argparse.ArgumentParser)
        assert "--rounds" in parser.format_help()
