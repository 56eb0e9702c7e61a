"""Both clients against a fake server: what they send, what they make of answers. Every test runs on each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.trunkline.fake_server import (
    EXAMPLE,
    PUSHED,
    TASK,
    FakeServer,
    adapter_bytes,
    generated,
    ok,
    prediction,
    problem,
    result,
)
from trunkline import (
    AsyncClient,
    Client,
    Conflict,
    ConnectionFailed,
    Invalid,
    ItemFailed,
    NotFound,
    Overloaded,
    Prediction,
    TooLarge,
    TrunklineError,
    Unauthorized,
    Unavailable,
)

Ask = Callable[..., Any]


def ask_sync(server: FakeServer, method: str, *args: Any, **kwargs: Any) -> Any:
    settings = kwargs.pop("client", {})
    with Client("http://server:1", transport=server.transport, **settings) as client:
        return getattr(client, method)(*args, **kwargs)


def ask_async(server: FakeServer, method: str, *args: Any, **kwargs: Any) -> Any:
    settings = kwargs.pop("client", {})

    async def run() -> Any:
        async with AsyncClient("http://server:1", transport=server.transport, **settings) as client:
            return await getattr(client, method)(*args, **kwargs)

    return asyncio.run(run())


@pytest.fixture(params=[ask_sync, ask_async], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Calls a method of a client that never really waits."""
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("trunkline.client.time.sleep", waits.append)
    monkeypatch.setattr("trunkline.client.asyncio.sleep", wait)
    ask: Ask = request.param
    monkeypatch.setattr(ask, "waits", waits, raising=False)
    return ask


def waits(ask: Ask) -> list[float]:
    return ask.waits  # type: ignore[attr-defined,no-any-return]  # set by the fixture


def test_one_text_gives_one_prediction(ask: Ask) -> None:
    server = FakeServer([ok(result(prediction("spam", 0.75)))])
    answer = ask(server, "predict", "spam", "buy now")
    assert answer == Prediction("spam", 3, "spam", 0.75, {"spam": 0.75}, tokens=4)
    assert server.sent == {"task": "spam", "inputs": ["buy now"]}
    assert server.requests[0].method == "POST"
    assert str(server.requests[0].url) == "http://server:1/v1/predict"


def test_a_list_gives_a_list_in_order_and_options_are_sent(ask: Ask) -> None:
    server = FakeServer([ok(result(prediction("a", logits=[1.0, 2.0]), prediction("b", truncated=True)))])
    answers = ask(server, "predict", "spam", ["x", ("y", "z")], top_k=1, raw=True, truncate=True)
    assert [answer.label for answer in answers] == ["a", "b"]
    assert answers[0].logits == [1.0, 2.0]
    assert answers[1].truncated
    assert server.sent == {
        "task": "spam",
        "inputs": ["x", {"text": "y", "text_pair": "z"}],
        "top_k": 1,
        "raw": True,
        "truncate": True,
    }


def test_a_text_with_choices_is_one_input(ask: Ask) -> None:
    server = FakeServer([ok(result(prediction("b", 0.75, index=1)))])
    answer = ask(server, "predict", "cause", {"text": "a", "choices": ["c", "b"]})
    assert (answer.label, answer.index, answer.score) == ("b", 1, 0.75)
    assert server.sent["inputs"] == [{"text": "a", "choices": ["c", "b"]}]


def test_generated_texts_have_no_score(ask: Ask) -> None:
    server = FakeServer([ok(result(written := generated("perhaps")))])
    answer = ask(server, "predict", "rte", "a", generate=True, max_new_tokens=8)
    assert answer == Prediction("spam", 3, tokens=4, text="perhaps")
    assert server.sent == {"task": "rte", "inputs": ["a"], "generate": True, "max_new_tokens": 8}
    several = FakeServer([ok({"results": [result(written), result(written)]})])
    found = ask(several, "predict_tasks", ["rte", "sst2"], ["a"], generate=True)
    assert found["sst2"][0].text == "perhaps"
    assert several.sent == {"tasks": ["rte", "sst2"], "inputs": ["a"], "generate": True}


def test_an_unknown_option_is_refused_at_once(ask: Ask) -> None:
    with pytest.raises(TypeError, match="generates"):
        ask(FakeServer([]), "predict", "rte", "a", generates=True)


def test_a_list_of_one_stays_a_list(ask: Ask) -> None:
    assert isinstance(ask(FakeServer([ok(result(prediction()))]), "predict", "spam", ["x"]), list)


def test_a_pair_is_one_input(ask: Ask) -> None:
    server = FakeServer([ok(result(prediction()))])
    assert isinstance(ask(server, "predict", "spam", ("x", "y")), Prediction)
    assert server.sent["inputs"] == [{"text": "x", "text_pair": "y"}]


def test_no_inputs_give_no_predictions_although_the_server_wants_one(ask: Ask) -> None:
    errors = [{"field": "inputs", "got": "0", "allowed": "1 to 10000", "remedy": "send at least one"}]
    for reply in (ok(result()), problem(422, "invalid_input", errors=errors)):
        assert ask(FakeServer([reply]), "predict", "spam", []) == []
    assert ask(FakeServer([problem(422, errors=errors)]), "predict_tasks", ["a", "b"], []) == {
        "a": [],
        "b": [],
    }
    with pytest.raises(Unauthorized):
        ask(FakeServer([problem(401)]), "predict", "spam", [])


def test_regression_and_multi_label_answers(ask: Ask) -> None:
    regression = {"label": None, "score": 2.5, "scores": {"urgency": 2.5}, "tokens": 3, "truncated": False}
    server = FakeServer([ok(result(regression, prediction(["a", "b"], 0.8)))])
    first, second = ask(server, "predict", "spam", ["x", "y"])
    assert (first.label, first.score, first.scores) == (None, 2.5, {"urgency": 2.5})
    assert second.label == ["a", "b"]


def test_a_failed_item_stands_in_its_place(ask: Ask) -> None:
    failed = {
        "error": {"code": "too_long", "message": "900 tokens, the limit is 256", "index": 1, "limit": 256}
    }
    answers = ask(FakeServer([ok(result(prediction("a"), failed))]), "predict", "spam", ["x", "y"])
    assert answers[0].raise_for_error() is answers[0]
    assert not answers[1].ok
    assert (answers[1].label, answers[1].error.code, answers[1].error.index) == (None, "too_long", 1)
    assert answers[1].error.details == {"limit": 256}
    with pytest.raises(ItemFailed, match=r"inputs\[1\]: 900 tokens") as caught:
        answers[1].raise_for_error()
    assert caught.value.code == "too_long"


def test_a_single_failed_input_raises(ask: Ask) -> None:
    failed = {"error": {"code": "too_long", "message": "900 tokens", "index": 0}}
    with pytest.raises(ItemFailed, match="900 tokens"):
        ask(FakeServer([ok(result(failed))]), "predict", "spam", "x")


def test_a_list_of_one_failed_input_is_a_list_although_the_server_refuses_it_whole(ask: Ask) -> None:
    errors = [{"field": "inputs.0", "got": "too_long", "allowed": "900 tokens", "remedy": ""}]
    refused = FakeServer([problem(422, "too_long", detail="900 tokens", errors=errors)])
    (answer,) = ask(refused, "predict", "spam", ["x"])
    assert (answer.error.code, answer.error.message, answer.error.index) == ("too_long", "900 tokens", 0)
    with pytest.raises(Invalid, match="900 tokens"):
        ask(refused, "predict", "spam", "x")
    with pytest.raises(Invalid):
        ask(FakeServer([problem(422, "invalid_input")]), "predict", "spam", ["x"])


def test_several_tasks_are_keyed_as_they_were_asked(ask: Ask) -> None:
    unknown = {"task": "nope", "error": {"code": "unknown_task", "message": "no task 'nope'"}}
    server = FakeServer([ok({"results": [result(prediction("a"), prediction("b")), unknown]})])
    answers = ask(server, "predict_tasks", ["spam@3", "nope"], ["x", "y"])
    assert list(answers) == ["spam@3", "nope"]
    assert [answer.label for answer in answers["spam@3"]] == ["a", "b"]
    assert [answer.error.code for answer in answers["nope"]] == ["unknown_task"] * 2
    assert [answer.error.index for answer in answers["nope"]] == [0, 1]
    assert server.sent == {"tasks": ["spam@3", "nope"], "inputs": ["x", "y"]}


def test_several_tasks_on_one_text_still_give_lists(ask: Ask) -> None:
    server = FakeServer([ok({"results": [result(prediction("a"))]})])
    assert [answer.label for answer in ask(server, "predict_tasks", ["spam"], "x")["spam"]] == ["a"]


def test_tasks_must_not_be_one_string(ask: Ask) -> None:
    with pytest.raises(TypeError, match="list of names"):
        ask(FakeServer([]), "predict_tasks", "spam", ["x"])


@pytest.mark.parametrize("form", [str, Path, Path.read_bytes])
def test_push_takes_a_path_or_bytes_and_finds_the_name(
    ask: Ask, tmp_path: Path, form: Callable[..., Any]
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(adapter_bytes("spam"))
    server = FakeServer([ok(PUSHED, 201)])
    pushed = ask(server, "push", form(path))
    assert (pushed.task, pushed.version, pushed.created) == ("spam", 3, True)
    assert pushed.labels == ("ham", "spam")
    request = server.requests[0]
    assert request.content == path.read_bytes()
    assert request.headers["content-type"] == "application/octet-stream"
    assert request.url.path == "/v1/tasks/spam/versions"
    assert dict(request.url.params) == {"alias": "production"}


def test_push_again_says_that_nothing_was_created(ask: Ask) -> None:
    server = FakeServer([ok(PUSHED, 200)])
    assert ask(server, "push", adapter_bytes(), "other", alias=None).created is False
    assert server.requests[0].url.path == "/v1/tasks/other/versions"
    assert dict(server.requests[0].url.params) == {"alias": ""}


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\xff" * 64, adapter_bytes()[:-1], adapter_bytes("")])
def test_push_without_a_name_refuses_what_is_no_adapter_file(ask: Ask, data: bytes) -> None:
    with pytest.raises(Invalid, match="not a whole adapter file"):
        ask(FakeServer([]), "push", data)


def test_push_raises_every_failure(ask: Ask) -> None:
    errors = [
        {"field": "head/weight", "got": "[3, 384]", "allowed": "[2, 384]", "remedy": "match the labels"},
        {"field": "backbone.family", "got": "roberta", "allowed": "bert", "remedy": ""},
    ]
    server = FakeServer([problem(422, "invalid_adapter", detail="the file was refused", errors=errors)])
    with pytest.raises(Invalid, match="the file was refused") as caught:
        ask(server, "push", adapter_bytes())
    assert [error.field for error in caught.value.errors] == ["head/weight", "backbone.family"]
    assert str(caught.value.errors[0]) == "head/weight: got [3, 384]; allowed: [2, 384]. match the labels"


def test_tasks_and_task(ask: Ask) -> None:
    server = FakeServer([ok({"tasks": [TASK]})])
    (task,) = ask(server, "tasks")
    assert (task.task, task.revision, task.production, len(task.versions)) == ("spam", 7, 2, 2)
    assert (task.versions[0].state, task.versions[0].reason) == ("failed", "probe 3 differs")
    assert ask(FakeServer([ok(TASK)]), "task", "spam") == task


def _page(*names: str, next: str | None = None) -> httpx.Response:
    return ok({"tasks": [TASK | {"task": name} for name in names], "next": next})


def _asked(server: FakeServer) -> list[dict[str, str]]:
    return [dict(request.url.params) for request in server.requests]


def test_all_pages_of_tasks_are_read(ask: Ask) -> None:
    """Also behind pages that hold nothing."""
    server = FakeServer([_page("a", "b", next="b"), _page(next="m"), _page("n")])
    assert [task.task for task in ask(server, "tasks")] == ["a", "b", "n"]
    assert _asked(server) == [
        {"limit": "500"},
        {"limit": "500", "after": "b"},
        {"limit": "500", "after": "m"},
    ]


def test_a_search_and_a_limit_are_sent(ask: Ask) -> None:
    server = FakeServer([_page("a", "b", next="b"), _page("c", next="c"), _page("never")])
    assert [task.task for task in ask(server, "tasks", "x & y", limit=3)] == ["a", "b", "c"]
    assert _asked(server) == [{"limit": "3", "q": "x & y"}, {"limit": "1", "q": "x & y", "after": "b"}]
    with pytest.raises(ValueError, match="limit is 0"):
        ask(FakeServer([_page()]), "tasks", limit=0)


def test_a_server_whose_pages_never_end_is_told(ask: Ask) -> None:
    server = FakeServer([_page("a", next="a"), _page("a", next="a")])
    with pytest.raises(TrunklineError, match="the page after 'a' says that 'a' comes next"):
        ask(server, "tasks")
    assert len(server.requests) == 2


def test_version(ask: Ask) -> None:
    server = FakeServer([ok({**TASK, **TASK["versions"][1]})])  # type: ignore[index]
    version = ask(server, "version", "spam", 2)
    assert (version.version, version.example) == (2, EXAMPLE)
    assert len({version, version}) == 1, "an example that is an object harms no set"
    assert server.requests[0].url.path == "/v1/tasks/spam/versions/2"


def test_promote_sends_the_expected_revision(ask: Ask) -> None:
    server = FakeServer([ok(TASK)])
    assert ask(server, "promote", "spam", 2, alias="staging", expect_revision=6).revision == 7
    request = server.requests[0]
    assert (request.method, request.url.path) == ("PUT", "/v1/tasks/spam/aliases/staging")
    assert request.headers["if-match"] == '"6"'
    assert server.sent == {"version": 2}


def test_promote_without_expectation_sends_none(ask: Ask) -> None:
    server = FakeServer([ok(TASK)])
    ask(server, "promote", "spam", 2)
    assert "if-match" not in server.requests[0].headers


def test_rollback_and_delete(ask: Ask) -> None:
    server = FakeServer([ok(TASK)])
    ask(server, "rollback", "spam")
    assert (server.requests[0].method, server.requests[0].url.path) == ("POST", "/v1/tasks/spam/rollback")
    server = FakeServer([httpx.Response(204)])
    assert ask(server, "delete", "spam") is None
    assert (server.requests[0].method, server.requests[0].url.path) == ("DELETE", "/v1/tasks/spam")
    ask(server, "delete", "spam", 2)
    assert server.requests[1].url.path == "/v1/tasks/spam/versions/2"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "a?b#c", "..", ".", "ä b", "half \ud83d"])
def test_a_name_stays_one_part_of_the_path(ask: Ask, name: str) -> None:
    server = FakeServer([problem(422)])
    with pytest.raises(Invalid):
        ask(server, "task", name)
    raw = server.requests[0].url.raw_path.decode()
    assert raw.startswith("/v1/tasks/")
    assert raw.count("/") == 3
    assert not raw.endswith(("/.", "/.."))


def test_info_and_limits(ask: Ask) -> None:
    assert ask(FakeServer([ok({"name": "trunkline"})]), "info") == {"name": "trunkline"}
    assert ask(FakeServer([ok({"max_items": 10})]), "limits") == {"max_items": 10}


def test_token_is_sent_without_its_newline(ask: Ask) -> None:
    server = FakeServer([ok({})])
    ask(server, "info", client={"token": "secret\n"})
    assert server.requests[0].headers["authorization"] == "Bearer secret"
    for nothing in (None, "", " \n"):
        ask(server, "info", client={"token": nothing})
        assert "authorization" not in server.requests[-1].headers


@pytest.mark.parametrize(
    ("token", "says"),
    [("a b", "white space inside"), ("a\nb", "white space inside"), ("é", "not ASCII"), ('"a"', "in quotes")],
)
def test_a_token_that_cannot_be_sent_is_told_at_once(ask: Ask, token: str, says: str) -> None:
    server = FakeServer([ok({})])
    with pytest.raises(Unauthorized, match=f"the token .*{says}.*nothing was sent"):
        ask(server, "info", client={"token": token})
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, NotFound),
        (409, Conflict),
        (412, Conflict),
        (413, TooLarge),
        (415, Invalid),
        (422, Invalid),
        (429, Overloaded),
        (500, TrunklineError),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
def test_each_status_has_its_error(ask: Ask, status: int, kind: type[TrunklineError]) -> None:
    reply = problem(status, "the_code", detail="what happened", request_id="r-1")
    with pytest.raises(kind, match="what happened") as caught:
        ask(FakeServer([reply]), "info", client={"retries": 0})
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, "the_code", "r-1")


def test_an_error_page_of_a_proxy_is_an_error_too(ask: Ask) -> None:
    page = httpx.Response(502, html="<h1>Bad gateway</h1>", headers={"X-Request-ID": "r-2"})
    with pytest.raises(Unavailable, match="answered 502 without a reason") as caught:
        ask(FakeServer([page]), "info")
    assert caught.value.request_id == "r-2"


@pytest.mark.parametrize("reply", [ok([]), ok({}), httpx.Response(200, html="<p>"), ok(result()), ok(None)])
def test_an_answer_of_another_form_is_told(ask: Ask, reply: httpx.Response) -> None:
    with pytest.raises(TrunklineError, match=r"is this a trunkline server of the same version\?"):
        ask(FakeServer([reply]), "predict", "spam", ["x"])


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_tried_again_after_the_time_it_names(ask: Ask, status: int) -> None:
    refused = problem(status, headers={"Retry-After": "2"})
    server = FakeServer([refused, refused, ok({"name": "t"})])
    assert ask(server, "info") == {"name": "t"}
    assert waits(ask) == [2.0, 2.0]


def test_without_retry_after_the_wait_doubles_and_ends(ask: Ask) -> None:
    server = FakeServer([problem(429)])
    with pytest.raises(Overloaded):
        ask(server, "info", client={"retries": 3})
    assert len(server.requests) == 4
    assert waits(ask) == [0.25, 0.5, 1.0]


def test_a_wait_that_is_too_long_is_left_to_the_caller(ask: Ask) -> None:
    server = FakeServer([problem(429, headers={"Retry-After": "3600"})])
    with pytest.raises(Overloaded) as caught:
        ask(server, "info")
    assert caught.value.retry_after_s == 3600
    assert waits(ask) == []


@pytest.mark.parametrize("status", [400, 404, 422, 500])
def test_other_refusals_are_not_tried_again(ask: Ask, status: int) -> None:
    server = FakeServer([problem(status, headers={"Retry-After": "0"})])
    with pytest.raises(TrunklineError):
        ask(server, "info")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (httpx.ConnectError("refused"), "nothing answers at http://server:1"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
        (httpx.RemoteProtocolError("gone"), "broke"),
    ],
)
def test_no_answer_is_a_connection_error(ask: Ask, cause: Exception, says: str) -> None:
    with pytest.raises(ConnectionFailed, match=says):
        ask(FakeServer([cause]), "info")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "", "http://", "http://host:port", "/v1"])
def test_an_address_that_is_none_is_told_at_once(ask: Ask, url: str) -> None:
    client = Client if ask is ask_sync else AsyncClient
    with pytest.raises(ConnectionFailed, match="not an address"):
        client(url)


def test_a_path_in_the_address_is_kept() -> None:
    server = FakeServer([ok({})])
    with Client("http://server:1/trunk/\n", transport=server.transport) as client:
        client.info()
    assert str(server.requests[0].url) == "http://server:1/trunk/v1/info"


def test_ready(ask: Ask) -> None:
    assert ask(FakeServer([ok({"status": "ready"})]), "ready") is True
    assert ask(FakeServer([problem(503, headers={"Retry-After": "1"})]), "ready") is False
    assert ask(FakeServer([httpx.ConnectError("refused")]), "ready") is False
    assert waits(ask) == []


def test_wait_ready(ask: Ask) -> None:
    server = FakeServer([httpx.ConnectError("refused"), problem(503), ok({})])
    ask(server, "wait_ready")
    assert len(server.requests) == 3
    with pytest.raises(Unavailable, match="not ready within 0 s"):
        ask(FakeServer([problem(503)]), "wait_ready", timeout_s=0)


def test_a_push_that_waits_goes_on_when_the_server_is_ready(ask: Ask) -> None:
    starting = problem(503, "not_ready", detail="starting: the backbone is being loaded")
    replies: list[httpx.Response | Exception] = [httpx.ConnectError("refused"), starting, starting]
    replies += [problem(502), ok({}), ok(PUSHED, 201)]
    server, told = FakeServer(replies), list[str]()
    pushed = ask(server, "push", adapter_bytes(), wait_s=60, on_wait=told.append)
    assert pushed.created
    assert [request.url.path for request in server.requests] == ["/ready"] * 5 + ["/v1/tasks/spam/versions"]
    assert [reason.partition(":")[0].partition(" at ")[0] for reason in told] == [
        "nothing answers",
        "starting",
        "Title",
    ], "each reason once"
    assert server.requests[0].extensions["timeout"]["read"] <= 60


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ([ok({}), problem(401)], Unauthorized),
        ([problem(404)], NotFound),
        ([ok({}), problem(409)], Conflict),
        ([ok({}), problem(413)], TooLarge),
        ([ok({}), problem(403, "store_read_only", detail="the store is read-only")], Unauthorized),
    ],
)
def test_what_waiting_cannot_mend_is_not_waited_for(
    ask: Ask, replies: list[httpx.Response | Exception], error: type[Exception]
) -> None:
    server = FakeServer(replies)
    with pytest.raises(error):
        ask(server, "push", adapter_bytes(), wait_s=60)
    assert len(server.requests) == len(replies)
    assert waits(ask) == []
    with pytest.raises(Invalid, match="not a whole adapter file"):
        ask(server, "push", b"no adapter", wait_s=60)
    assert len(server.requests) == len(replies), "a bad file is found before anything is waited for"


def test_a_server_that_stays_away_is_told_with_the_last_reason(ask: Ask) -> None:
    server = FakeServer([httpx.ConnectError("refused"), problem(503, detail="failed: no such backbone")])
    with pytest.raises(Unavailable, match="not ready within 0.05 s: failed: no such backbone"):
        ask(server, "push", adapter_bytes(), wait_s=0.05)


def test_bodies_are_not_sent_where_there_is_none(ask: Ask) -> None:
    server = FakeServer([ok({"tasks": []})])
    ask(server, "tasks")
    assert server.requests[0].content == b""
    assert "content-type" not in server.requests[0].headers


def test_both_clients_offer_the_same() -> None:
    def public(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
