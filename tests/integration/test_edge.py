"""What tools send beside the plain form: halves of characters, packed bodies, HEAD, pages, a prefix."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from service.settings import Settings
from tests.integration.world import SPECS, Live

TOKEN = "a-token-for-tests"
PAGE = "https://app.example"
PREFIX = "/trunk/line"
JSON = {"Content-Type": "application/json"}
ASKED = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}


@pytest.fixture(scope="module")
def behind(
    backbone_folder: Path, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """A server with a token, for pages of one origin, under a prefix, with small limits."""
    settings = Settings(
        backbone=str(backbone_folder),
        store=tmp_path_factory.mktemp("behind") / "store",
        device="cpu",
        token=SecretStr(TOKEN),
        cors_origins=(PAGE,),
        root_path=PREFIX,
        max_body_bytes=50_000,
    )
    with Live(settings) as server:
        assert server.push("mood", files["mood"]).status_code == 201
        yield server


def _post(http: httpx.Client, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return http.post("/v1/predict", content=body, headers=JSON | named)


@pytest.mark.parametrize("tasks", [["mood"], ["mood", "tags", "probe"], ["urgency", "nothing-of-this-name"]])
def test_half_a_character_fails_its_own_input_alone(shared: Live, tasks: list[str]) -> None:
    """Its neighbours are answered as without it, by every task."""
    inputs = ["w1 w2", "w3 \ud83d w4", "w5 \U0001f600", "\ude00", "w6\x00"]
    answer = _post(shared.http, json.dumps({"tasks": tasks, "inputs": inputs}).encode())
    assert answer.status_code == 200, answer.text
    sound = shared.predict(tasks, [inputs[0], inputs[2], inputs[4]])
    for with_halves, without in zip(answer.json()["results"], sound["results"], strict=True):
        if "error" in without:
            assert with_halves == without
            continue
        told = with_halves["predictions"]
        assert [told[0], told[2], told[4]] == without["predictions"]
        assert [told[index]["error"]["code"] for index in (1, 3)] == ["invalid_item"] * 2
        assert "\\ud83d) in text, at character 3" in told[1]["error"]["message"]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"task": "mood", "inputs": "\ud83d"}, "invalid_item"),
        ({"task": "mood", "inputs": ["\ud83d"]}, "invalid_item"),
        ({"task": "same", "inputs": {"text": "a", "text_pair": "\ude00"}}, "invalid_item"),
        ({"task": "mood", "inputs": {"\ud83d": "a"}}, "invalid_item"),
        ({"task": "m\ud83d", "inputs": "a"}, "invalid_input"),
        ({"task": "mood", "inputs": "a", "\ud83d": 1}, "invalid_input"),
        ({"task": "mood", "inputs": "a", "generate": "\ud83d"}, "invalid_input"),
    ],
)
def test_half_a_character_that_refuses_the_request(shared: Live, payload: dict[str, Any], code: str) -> None:
    for body in (
        json.dumps(payload).encode(),
        json.dumps(payload, ensure_ascii=False).encode("utf-8", "surrogatepass"),
    ):
        refused = _post(shared.http, body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)


def test_a_small_body_is_read_alike(shared: Live) -> None:
    """That of an alias, which the framework reads: marked, packed, with half a character, in UTF-16."""
    url, body = "/v1/tasks/mood/aliases/edge", b'{"version": 1}'
    put = shared.http.put
    assert put(url, content=codecs.BOM_UTF8 + body, headers=JSON).status_code == 200
    assert (
        put(url, content=gzip.compress(body), headers=JSON | {"Content-Encoding": "gzip"}).status_code == 200
    )
    assert put(url, content=body, headers=JSON | {"Content-Encoding": "br"}).status_code == 415
    assert put(url, content=body, headers={"Content-Type": "text/plain"}).status_code == 415
    refused = put(url, content=body.decode().encode("utf-16"), headers=JSON)
    assert (refused.status_code, "UTF-16" in refused.json()["detail"]) == (400, True)
    for payload in ({"version": "\ud83d"}, {"version": 1, "\ud83d": 2}, "\ud83d"):
        refused = put(url, content=json.dumps(payload).encode(), headers=JSON)
        assert refused.status_code == 422, refused.text
    large = put(url, content=b" " * 33_554_433, headers=JSON)
    assert (large.status_code, "max_body_bytes" in large.json()["detail"]) == (413, True)


def test_packed_bodies_are_unpacked(shared: Live, files: dict[str, bytes]) -> None:
    body = json.dumps({"task": "mood", "inputs": ["w1 w2", "w3"]}).encode()
    wanted = _post(shared.http, body).json()
    for packed, coding in (
        (gzip.compress(body), "GZip"),
        (zlib.compress(body), "deflate"),
        (body, "identity"),
    ):
        assert _post(shared.http, packed, Content_Encoding=coding).json() == wanted
    assert _post(shared.http, codecs.BOM_UTF8 + body).json() == wanted
    headers = {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
    url = "/v1/tasks/mood/versions?alias="
    again = shared.http.post(url, content=gzip.compress(files["mood"]), headers=headers)
    assert (again.status_code, again.json()["version"]) == (200, 1)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "utf-8"])
@pytest.mark.parametrize("url", ["/v1/predict", "/v1/tasks/mood/versions"])
def test_other_codings_are_refused_by_name(shared: Live, coding: str, url: str) -> None:
    kind = "application/json" if url == "/v1/predict" else "application/octet-stream"
    headers = {"Content-Type": kind, "Content-Encoding": coding}
    refused = shared.http.post(url, content=b'{"task": "mood", "inputs": "w1"}', headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")
    assert repr(coding) in refused.json()["detail"]
    assert refused.headers["accept-encoding"] == "gzip, deflate"


def test_a_bomb_is_too_large_and_a_cut_body_malformed(behind: Live) -> None:
    bomb = gzip.compress(b" " * 60_000)
    for content in (bomb, iter([bomb[:30], bomb[30:]])):
        refused = behind.http.post(
            "/v1/predict", content=content, headers=JSON | {"Content-Encoding": "gzip"}
        )
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        assert "50000 bytes once its gzip is unpacked" in refused.json()["detail"]
    cut = _post(behind.http, gzip.compress(b'{"task": "mood", "inputs": "w1"}')[:-3], Content_Encoding="gzip")
    assert (cut.status_code, "cut" in cut.json()["detail"]) == (400, True)


def _get_paths(live: Live) -> list[str]:
    paths = live.http.get("/openapi.json").json()["paths"]
    assert not any("head" in methods for methods in paths.values())
    listed = [path for path, methods in paths.items() if "get" in methods]
    made = [path.format(task=task, version=1) for path in listed for task in ("mood", "nowhere")]
    return sorted({*made, "/docs", "/openapi.json", "/nowhere"})


def test_head_is_get_without_the_body(shared: Live, behind: Live) -> None:
    """On every route that GET has, also where it is refused; the numbers at /metrics are others each time."""
    told = {"x-request-id", "date"}
    for live in (shared, behind):
        paths = _get_paths(live)
        assert len(paths) > 10
        with httpx.Client(base_url=live.url) as stranger:
            for http, path in ((http, path) for http in (live.http, stranger) for path in paths):
                get, head = http.get(path), http.head(path)
                assert (head.status_code, head.content) == (get.status_code, b""), path
                unlike = told | ({"content-length"} if path == "/metrics" else set())
                assert {k: v for k, v in head.headers.items() if k not in unlike} == {
                    k: v for k, v in get.headers.items() if k not in unlike
                }, path
    refused = shared.http.head("/v1/predict")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert shared.http.post("/live").headers["allow"] == "GET, HEAD"


def test_the_question_of_an_allowed_page_is_answered_without_a_token(behind: Live) -> None:
    with httpx.Client(base_url=behind.url) as browser:
        for path in ("/v1/predict", f"{PREFIX}/v1/tasks/mood/aliases/a", "/nowhere"):
            answered = browser.options(
                path, headers=ASKED | {"Access-Control-Request-Private-Network": "true"}
            )
            assert answered.status_code == 200, answered.text
            assert answered.headers["access-control-allow-origin"] == PAGE
            assert {"POST", "PUT", "DELETE"} <= {
                *answered.headers["access-control-allow-methods"].split(", ")
            }
            assert answered.headers["access-control-allow-headers"] == "authorization"
            assert answered.headers["access-control-allow-private-network"] == "true"
            assert "access-control-allow-credentials" not in answered.headers
            assert answered.headers["x-request-id"]
            assert "Origin" in answered.headers["vary"]
        for origin in ("https://evil.example", "null", f"{PAGE}.evil.example", "http://app.example"):
            refused = browser.options("/v1/predict", headers=ASKED | {"Origin": origin})
            assert (refused.status_code, refused.json()["code"]) == (403, "cross_site")
            assert "cors_origins" in refused.json()["detail"]
            assert "access-control-allow-origin" not in refused.headers
        assert browser.options("/v1/predict", headers={"Origin": PAGE}).status_code == 401


def test_every_answer_to_an_allowed_page_can_be_read_by_it(
    behind: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers and errors, also those of ours; to others none of it, and caches are told."""
    page, bearer = {"Origin": PAGE}, {"Authorization": f"Bearer {TOKEN}"}
    body = {"task": "mood", "inputs": "w1"}

    def ask(status: int, **headers: str) -> httpx.Response:
        with httpx.Client(base_url=behind.url) as browser:
            answer = browser.post("/v1/predict", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert "Origin" in answer.headers["vary"]
        return answer

    seen = [ask(200, **page, **bearer), ask(401, **page)]
    body["inputs"] = "w" * 60_000
    seen.append(ask(413, **page, **bearer))
    body["inputs"] = "w1"
    monkeypatch.setattr(type(behind.service), "parts", property(lambda _: 1 / 0))
    seen.append(ask(500, **page, **bearer))
    monkeypatch.undo()
    for answer in seen:
        assert answer.headers["access-control-allow-origin"] == PAGE
        exposed = answer.headers["access-control-expose-headers"]
        assert {"X-Request-ID", "X-Adapter-Version", "ETag", "Retry-After", "Location"} <= {
            *exposed.split(", ")
        }
    for headers in (bearer, bearer | {"Origin": "https://evil.example"}):
        assert "access-control-allow-origin" not in ask(200, **headers).headers


def test_without_the_setting_no_page_is_told_anything(shared: Live) -> None:
    refused = shared.http.options("/v1/predict", headers=ASKED)
    assert (refused.status_code, refused.json()["code"]) == (403, "cross_site")
    assert "cors_origins" in refused.json()["detail"]
    answer = shared.http.get("/live", headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]


def test_a_prefix_is_there_whether_the_proxy_cuts_it_off_or_not(
    behind: Live, files: dict[str, bytes]
) -> None:
    for start in ("", PREFIX):
        assert behind.http.get(f"{start}/v1/tasks/mood").json()["task"] == "mood"
        assert f"url: '{PREFIX}/openapi.json'" in behind.http.get(f"{start}/docs").text
        assert behind.http.get(f"{start}/openapi.json").json()["servers"] == [{"url": PREFIX}]
        url = f"{start}/v1/tasks/mood/versions"
        pushed = behind.http.post(url, content=files["mood"])
        assert pushed.headers["location"] == f"{PREFIX}/v1/tasks/mood/versions/1"
        missing = behind.http.get(f"{start}/nowhere")
        assert (missing.status_code, f"see {PREFIX}/docs" in missing.json()["detail"]) == (404, True)
    assert behind.http.get(f"{PREFIX}er/live").status_code == 404
    assert behind.http.get(f"{PREFIX}{PREFIX}/live").status_code == 404


def test_what_needs_a_token_needs_it_under_the_prefix_too(behind: Live) -> None:
    with httpx.Client(base_url=behind.url) as stranger:
        for start in ("", PREFIX):
            assert stranger.get(f"{start}/live").status_code == 200
            for path in ("/v1/tasks", "/metrics", "/live/", "/x/live", "//live", "/"):
                assert stranger.get(f"{behind.url}{start}{path}").status_code == 401, start + path
        assert stranger.get(f"{PREFIX}{PREFIX}/live").status_code == 401


def test_the_client_finds_a_server_under_its_prefix(behind: Live) -> None:
    from trunkline import Client

    with Client(f"{behind.url}{PREFIX}", token=f"{TOKEN}\n") as client:
        assert client.predict("mood", "w1").label in SPECS["mood"].labels
        told = client.predict("mood", ["w1", "\ud83d"])
    assert (told[0].ok, told[1].error and told[1].error.code) == (True, "invalid_item")
