"""The commands that talk to a server: what they send, print and return."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.trunkline.conftest import Run
from tests.unit.trunkline.fake_server import (
    EXAMPLE,
    PUSHED,
    TASK,
    FakeServer,
    RowServer,
    adapter_bytes,
    generated,
    ok,
    prediction,
    problem,
    result,
    task_of,
)

Serve = Callable[[FakeServer], FakeServer]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "spam.safetensors"
    path.write_bytes(adapter_bytes())
    return path


def test_predict_texts_prints_a_table(run: Run, serve: Serve) -> None:
    server = serve(FakeServer([ok(result(prediction("spam", 0.987), prediction(["a", "b"], 0.5)))]))
    done = run("predict", "--task", "spam", "buy now", "hello")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert rows[0] == ["text", "answer", "score"]
    assert rows[2:] == [["buy", "now", "spam", "0.9870"], ["hello", "a,", "b", "0.5000"]]
    assert server.sent == {"task": "spam", "inputs": ["buy now", "hello"]}


def test_predict_several_tasks(run: Run, serve: Serve) -> None:
    reply = ok({"results": [result(prediction("a"), task="t1"), result(prediction("b"), task="t2")]})
    server = serve(FakeServer([reply]))
    done = run("predict", "--task", "t1", "--task", "t2", "--task", "t1", "x", "--top-k", "2")
    assert done.exit_code == 0, done.output
    assert [line.split()[:3] for line in done.stdout.splitlines()[3:5]] == [
        ["x", "t1", "a"],
        ["x", "t2", "b"],
    ]
    assert server.sent == {"tasks": ["t1", "t2"], "inputs": ["x"], "top_k": 2}


def test_versions_of_one_task_are_told_apart(run: Run, serve: Serve) -> None:
    reply = {"results": [result(prediction("a"), version=2), result(prediction("b"), version=3)]}
    serve(FakeServer([ok(reply)]))
    args = ["predict", "--task", "spam@2", "--task", "spam@staging", "x"]
    assert [line.split()[:3] for line in run(*args).stdout.splitlines()[3:5]] == [
        ["x", "spam@2", "a"],
        ["x", "spam@staging", "b"],
    ]
    lines = [json.loads(line) for line in run(*args, "--json").stdout.splitlines()]
    assert [(line["reference"], line["version"]) for line in lines] == [("spam@2", 2), ("spam@staging", 3)]


def test_a_lone_surrogate_is_printed_as_an_escape(run: Run, serve: Serve) -> None:
    serve(FakeServer([ok(result(prediction()))]))
    done = run("predict", "--task", "spam", "--jsonl", "--json", stdin='"half \\ud83d"')
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["text"] == "half \ud83d"


def test_predict_pairs(run: Run, serve: Serve) -> None:
    server = serve(FakeServer([ok(result(prediction("same")))]))
    assert run("predict", "--task", "dup", "a", "--pair", "b").exit_code == 0
    assert server.sent["inputs"] == [{"text": "a", "text_pair": "b"}]


def test_predict_choices(run: Run, serve: Serve) -> None:
    server = serve(FakeServer([ok(result(prediction("it is wet", 0.75, index=0), prediction("it is dry")))]))
    options = ["--choice", "it is wet", "--choice", "it is dry"]
    done = run("predict", "--task", "cause", "it rained", "the sun shone", *options)
    assert done.exit_code == 0, done.output
    choices = ["it is wet", "it is dry"]
    assert server.sent["inputs"] == [
        {"text": "it rained", "choices": choices},
        {"text": "the sun shone", "choices": choices},
    ]
    assert "it rained       it is wet   0.7500" in done.stdout


def test_predict_keeps_the_choices_of_a_line(run: Run, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    own = {"text": "a", "choices": ["b", "c"]}
    path.write_text("\n".join(json.dumps(line) for line in ({**own, "label": 1}, "d")))
    server = serve(RowServer(tasks={"cause": task_of("cause", kind="multiple_choice")}))
    done = run("predict", "--task", "cause", "--file", str(path), "--choice", "e", "--choice", "f", "--json")
    assert server.sent["inputs"] == [own, {"text": "d", "choices": ["e", "f"]}]
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["choices"], second["choices"]) == (["b", "c"], ["e", "f"])


def test_predict_generates(run: Run, serve: Serve) -> None:
    server = serve(FakeServer([ok(result(generated("perhaps"), generated("true", "true")))] * 2))
    options = ["--generate", "--max-new-tokens", "5"]
    done = run("predict", "--task", "rte", "x", "y", *options)
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.stdout.splitlines()[3:5]] == [
        ["x", "perhaps", "-"],
        ["y", "true", "-"],
    ]
    assert server.sent == {"task": "rte", "inputs": ["x", "y"], "generate": True, "max_new_tokens": 5}
    lines = run("predict", "--task", "rte", "x", "y", *options, "--json").stdout.splitlines()
    assert json.loads(lines[0]) == {
        "text": "x",
        "reference": "rte",
        "task": "spam",
        "version": 3,
        "label": None,
        "scores": {},
        "tokens": 4,
        "truncated": False,
        "generated": "perhaps",
    }


def test_predict_json_is_one_object_a_line(run: Run, serve: Serve) -> None:
    failed = {"error": {"code": "too_long", "message": "900 tokens", "index": 1}}
    serve(FakeServer([ok(result(prediction("ä", logits=[1.5]), failed))]))
    done = run("predict", "--task", "spam", "x", "y", "--raw", "--json")
    assert done.exit_code == 1
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == {
        "text": "x",
        "reference": "spam",
        "task": "spam",
        "version": 3,
        "label": "ä",
        "score": 0.9,
        "scores": {"ä": 0.9},
        "tokens": 4,
        "truncated": False,
        "logits": [1.5],
    }
    assert second["error"] == {"code": "too_long", "message": "900 tokens", "index": 1, "details": {}}
    assert "1 of 2 answers failed" in done.stderr


def test_predict_reads_lines_of_stdin_and_keeps_empty_ones(run: Run, serve: Serve) -> None:
    server = serve(FakeServer([ok(result(*[prediction()] * 3))]))
    assert run("predict", "--task", "spam", stdin="one\n\nthree").exit_code == 0
    assert server.sent["inputs"] == ["one", "", "three"]


def test_predict_reads_json_lines(run: Run, serve: Serve, tmp_path: Path) -> None:
    lines = ['"one"', '["a", "b"]', "", '{"text": "t", "text_pair": "p", "label": 1}']
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    server = serve(RowServer(tasks={"spam": task_of("spam")}))
    assert run("predict", "--task", "spam", "--file", str(path)).exit_code == 0
    pairs = [{"text": "a", "text_pair": "b"}, {"text": "t", "text_pair": "p"}]
    assert server.sent["inputs"] == ["one", *pairs]


def test_predict_sends_a_long_file_in_several_requests(run: Run, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("\ufeffone\r\ntwo\r\nthree\n", encoding="utf-8")
    server = serve(RowServer(tasks={"spam": task_of("spam")}))
    assert run("predict", "--task", "spam", "-f", str(path), "--batch", "2").exit_code == 0
    sent = [json.loads(request.content)["inputs"] for request in server.requests]
    assert sorted(sent) == [["one", "two"], ["three"]]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'"fine"\n{"txt": 1}\n', "line 2: an object needs the key"),
        ("a.jsonl", b'"fine"\nnot json\n', "line 2: "),
        ("a.txt", b"fine\n\xff\xfe\n", "not UTF-8"),
    ],
)
def test_predict_names_the_bad_line(
    run: Run, serve: Serve, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    serve(FakeServer([ok(result())]))
    done = run("predict", "--task", "spam", "--file", str(path))
    assert done.exit_code == 1
    assert says in done.stderr
    assert name in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["predict", "text"],
        ["predict", "--task", "t", "a", "b", "--pair", "c"],
        ["predict", "--task", "t", "a", "--file", "f.txt"],
        ["predict", "--task", "t", "a", "--top-k", "0"],
        ["predict", "--task", "t", "a", "--max-new-tokens", "5"],
        ["predict", "--task", "t", "a", "--generate", "--max-new-tokens", "0"],
        ["predict", "--task", "t", "a", "--generate", "--raw"],
        ["predict", "--task", "t", "a", "--generate", "--top-k", "2"],
        ["predict", "--task", "t", "a", "--pair", "b", "--choice", "c", "--choice", "d"],
        ["predict", "--task", "t", "a", "--choice", "c"],
        ["promote", "spam"],
        ["promote", "spam@x"],
        ["promote", "spam@1", "2"],
        ["promote", "spam", "0"],
        ["delete", "spam"],
        ["push"],
        ["push", "no-such-file.safetensors"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_status_2_and_sends_nothing(run: Run, serve: Serve, args: list[str]) -> None:
    server = serve(FakeServer([ok({})]))
    done = run(*args)
    assert done.exit_code == 2, done.output
    assert server.requests == []
    assert "Traceback" not in done.output


def test_predict_without_a_file_that_exists(run: Run) -> None:
    done = run("predict", "--task", "t", "--file", "no-such.txt")
    assert done.exit_code == 1
    assert "no-such.txt: No such file" in done.stderr


def test_push_tells_of_probes_that_follow(run: Run, serve: Serve, file: Path) -> None:
    serve(FakeServer([ok(PUSHED | {"probes": {"count": 8, "max_difference": 3.1e-7, "pending": 24}}, 201)]))
    assert "8 replayed, largest difference 3.1e-07; 24 follow" in run("push", str(file)).stdout


def test_push(run: Run, serve: Serve, file: Path) -> None:
    server = serve(FakeServer([ok(PUSHED, 201)]))
    done = run("push", str(file), "--alias", "")
    assert done.exit_code == 0, done.output
    assert "spam@3" in done.stdout
    assert "16 replayed, largest difference 3.1e-07" in done.stdout
    assert "follow" not in done.stdout
    assert dict(server.requests[0].url.params) == {"alias": ""}
    assert json.loads(run("push", str(file), "--json").stdout)["digest"] == "sha256:00"


def test_push_waits_when_it_is_told_to(run: Run, serve: Serve, file: Path) -> None:
    starting = problem(503, "not_ready", detail="starting: the backbone is being loaded")
    serve(FakeServer([httpx.ConnectError("refused"), starting, ok({}), ok(PUSHED, 201)]))
    done = run("push", "--wait", str(file))
    assert done.exit_code == 0, done.output
    assert "spam@3" in done.stdout
    first, second = done.stderr.splitlines()
    assert first.startswith("waiting: nothing answers at http")
    assert second == "waiting: starting: the backbone is being loaded"


def test_push_gives_up_and_without_the_option_waits_for_nobody(run: Run, serve: Serve, file: Path) -> None:
    server = serve(FakeServer([problem(503, "not_ready", detail="starting: the backbone is being loaded")]))
    late = run("push", str(file), "--wait", "--wait-seconds", "0")
    assert late.exit_code == 1
    assert "was not ready within 0 s: starting: the backbone is being loaded" in late.stderr
    server.replies, num_before = [httpx.ConnectError("refused")], len(server.requests)
    assert run("push", str(file)).exit_code == 1
    assert len(server.requests) == num_before + 1


def test_push_tells_every_reason_of_a_refusal(run: Run, serve: Serve, file: Path) -> None:
    errors = [
        {"field": f"encoder.{n}/scale", "got": "NaN", "allowed": "finite", "remedy": ""} for n in range(3)
    ]
    serve(FakeServer([problem(422, detail="the adapter is refused", errors=errors, request_id="r9")]))
    done = run("push", str(file))
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "error: the adapter is refused",
        *[f"  - encoder.{n}/scale: got NaN; allowed: finite" for n in range(3)],
        "  (request r9)",
    ]
    assert done.stdout == ""


def test_tasks(run: Run, serve: Serve) -> None:
    serve(FakeServer([ok({"tasks": [TASK]})]))
    done = run("tasks")
    assert "spam" in done.stdout
    assert "hadamard" in done.stdout
    assert "41.2 kB" in done.stdout
    assert json.loads(run("tasks", "--json").stdout)[0]["aliases"] == {"production": 2, "previous": 1}


def test_tasks_of_an_empty_server(run: Run, serve: Serve) -> None:
    serve(FakeServer([ok({"tasks": []})]))
    done = run("tasks")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no tasks yet" in done.stderr


def _page(*names: str, next: str | None = None) -> httpx.Response:
    return ok({"tasks": [TASK | {"task": name} for name in names], "next": next})


def test_tasks_of_all_pages_are_printed(run: Run, serve: Serve) -> None:
    pages: list[httpx.Response | Exception] = [_page("anna", next="anna"), _page("berta")]
    serve(FakeServer(pages))
    done = run("tasks")
    assert [name for name in ("anna", "berta") if f"{name} " in done.stdout] == ["anna", "berta"]
    assert done.stderr == ""
    serve(FakeServer(pages))
    assert [task["task"] for task in json.loads(run("tasks", "--json").stdout)] == ["anna", "berta"]


def test_tasks_that_are_not_printed_are_told(run: Run, serve: Serve) -> None:
    server = serve(FakeServer([_page("anna", "berta", next="berta")]))
    done = run("tasks", "--limit", "1", "--search", "a")
    assert [name for name in ("anna", "berta") if f"{name} " in done.stdout] == ["anna"]
    assert "only the first 1 tasks: raise --limit, or leave it out" in done.stderr
    assert dict(server.requests[0].url.params) == {"limit": "2", "q": "a"}
    serve(FakeServer([_page("anna")]))
    assert run("tasks", "--limit", "1").stderr == ""


def test_a_search_without_a_find_says_so(run: Run, serve: Serve) -> None:
    serve(FakeServer([_page()]))
    done = run("tasks", "--search", "zebra")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no task has 'zebra' in its name" in done.stderr
    refused = run("tasks", "spam", "--search", "zebra")
    assert refused.exit_code == 2
    assert "leave them out, or TASK" in refused.stderr


def test_versions_of_a_task(run: Run, serve: Serve) -> None:
    serve(FakeServer([ok(TASK)]))
    done = run("tasks", "spam")
    assert "failed: probe 3 differs" in done.stdout
    assert json.loads(run("tasks", "spam", "--json").stdout)["revision"] == 7


def test_a_task_shows_an_input_as_it_must_be_sent(run: Run, serve: Serve) -> None:
    """Whole, and as a line that `predict --file` takes."""
    serve(FakeServer([ok(TASK)]))
    name, _, shown = run("tasks", "spam").stdout.splitlines()[-1].partition("  ")
    assert name == "example input of spam@2"
    assert json.loads(shown) == EXAMPLE
    failed, resident = json.loads(run("tasks", "spam", "--json").stdout)["versions"]
    assert (failed["example"], resident["example"]) == (None, EXAMPLE)
    old = TASK | {"versions": [{**TASK["versions"][1], "example": None}]}  # type: ignore[index]  # a plain dict
    serve(FakeServer([ok(old)]))
    assert "example" not in run("tasks", "spam").stdout


@pytest.mark.parametrize("args", [["spam", "2"], ["spam@2"]])
def test_promote(run: Run, serve: Serve, args: list[str]) -> None:
    server = serve(FakeServer([ok(TASK)]))
    done = run("promote", *args, "--alias", "staging")
    assert done.exit_code == 0, done.output
    assert server.requests[0].url.path == "/v1/tasks/spam/aliases/staging"
    assert server.sent == {"version": 2}
    assert "production=2" in done.stdout


def test_rollback(run: Run, serve: Serve) -> None:
    server = serve(FakeServer([ok(TASK)]))
    assert run("rollback", "spam").exit_code == 0
    assert server.requests[0].url.path == "/v1/tasks/spam/rollback"


def test_delete(run: Run, serve: Serve) -> None:
    server = serve(FakeServer([httpx.Response(204)]))
    assert run("delete", "spam@1", "--yes").exit_code == 0
    assert run("delete", "spam", "-y").exit_code == 0
    paths = [request.url.path for request in server.requests]
    assert paths == ["/v1/tasks/spam/versions/1", "/v1/tasks/spam"]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (httpx.ConnectError("refused"), "nothing answers at http://127.0.0.1:8000"),
        (problem(404, detail="no task 'x'; there are: spam"), "no task 'x'; there are: spam"),
        (problem(401, detail="a token is needed"), "a token is needed"),
        (problem(429, detail="the queue is full"), "the queue is full"),
    ],
)
def test_what_goes_wrong_is_one_sentence(run: Run, serve: Serve, reply: Any, says: str) -> None:
    serve(FakeServer([reply]))
    for args in (["tasks"], ["predict", "--task", "x", "t"], ["rollback", "x"]):
        done = run(*args)
        assert done.exit_code == 1
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_address_and_token_come_from_the_environment(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(FakeServer([ok({"tasks": []})]))
    monkeypatch.setenv("TRUNKLINE_URL", "http://elsewhere:9")
    monkeypatch.setenv("TRUNKLINE_TOKEN", "from-environment")
    run("tasks")
    run("tasks", "--url", "http://third:7", "--token", "given")
    hosts = [request.url.host for request in server.requests]
    tokens = [request.headers["authorization"] for request in server.requests]
    assert hosts == ["elsewhere", "third"]
    assert tokens == ["Bearer from-environment", "Bearer given"]
