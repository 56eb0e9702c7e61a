"""The two HTTP clients. They know httpx, time and retries; what is sent and how it is read is in `calls`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload

import httpx

from service.tokens import fault_of, trimmed
from trunkline import calls, retry
from trunkline.answers import Prediction, Pushed, Task, Version
from trunkline.calls import Call, Options, Reply
from trunkline.errors import ConnectionFailed, Invalid, TrunklineError, Unauthorized, Unavailable
from trunkline.inputs import Inputs, Item
from trunkline.peek import peek_task
from trunkline.retry import OnWait, Waiting

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
# Shorter than the 5 s after which servers drop idle connections, so that none is dropped while we send on it.
POOL = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=3.0)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
POLL_S = 0.2


class Client:
    """A synchronous client of one Trunkline server; safe to share between threads, usable in a `with` block.

    `timeout` is in seconds for one attempt, `token` is sent as a bearer token, `retries` is the number of
    further attempts after 429 and 503, which wait as long as the server asks for in Retry-After. Every method
    raises a subclass of TrunklineError when the server refuses, and ConnectionFailed when no answer comes.

        with Client("http://127.0.0.1:8000") as client:
            client.predict("intent", "Where is my parcel?").label
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Open nothing yet; connections are made when needed. `transport` replaces the network (tests)."""
        self._retries = retries
        self._http = httpx.Client(transport=transport, limits=POOL, **_settings(url, token, timeout))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client is of no use afterwards."""
        self._http.close()

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is also an iterable of str; the first match is meant
        self, task: str, inputs: Item, **options: Unpack[Options]
    ) -> Prediction: ...
    @overload
    def predict(self, task: str, inputs: Iterable[Item], **options: Unpack[Options]) -> list[Prediction]: ...
    def predict(self, task: str, inputs: Inputs, **options: Unpack[Options]) -> Prediction | list[Prediction]:
        """The task's answers: one Prediction for one input, a list in the same order for a list.

        `task` is "name", "name@3" or "name@alias"; an input is a text, a tuple of two texts, or for a task
        that chooses {"text": "…", "choices": ["…", "…"]}. `top_k` cuts the scores, `raw` adds the logits,
        `truncate` cuts inputs that are too long instead of refusing them; `generate` has a text-to-text task
        write its answer, in at most `max_new_tokens` tokens, instead of scoring its labels.
        In a list, an input that fails carries its own `.error`; a failing single input raises Invalid.
        """
        return self._run(calls.predict(task, inputs, options))

    def predict_tasks(
        self, tasks: Iterable[str], inputs: Inputs, **options: Unpack[Options]
    ) -> dict[str, list[Prediction]]:
        """Several tasks on the same inputs in one request: always a list per task, keyed as given.

        A task that is unknown gives its error for every input; the others are answered.
        """
        return self._run(calls.predict_tasks(tasks, inputs, options))

    def push(
        self,
        file: str | Path | bytes,
        task: str | None = None,
        *,
        alias: str | None = "production",
        wait_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> Pushed:
        """Upload an adapter file, as `task` or under the name written in it, and point `alias` at it.

        `alias` None moves no alias. With `wait_s`, a server that is not there yet, or starting, is waited for
        that long, as in `wait_ready`. Returns once the server has checked the file and answers with it;
        raises Invalid with every failure in `.errors`.
        """
        name, data = _file(file, task)
        if wait_s is not None:
            self.wait_ready(wait_s, on_wait)
        return self._run(calls.push(name, data, alias))

    def tasks(self, part: str | None = None, *, limit: int | None = None) -> list[Task]:
        """Every task on the server by name, or those with `part` in their names; at most `limit` of them.

        However many there are: they are asked for page by page.
        """
        listing = calls.Listing(part, limit)
        while not listing.done:
            listing.add(self._run(listing.call()))
        return listing.tasks

    def task(self, name: str) -> Task:
        """One task; raises NotFound."""
        return self._run(calls.task(name))

    def version(self, name: str, number: int) -> Version:
        """One version of a task; raises NotFound."""
        return self._run(calls.version(name, number))

    def promote(
        self, task: str, version: int, *, alias: str = "production", expect_revision: int | None = None
    ) -> Task:
        """Point `alias` at `version`. With `expect_revision`, raises Conflict if the task changed since."""
        return self._run(calls.promote(task, version, alias, expect_revision))

    def rollback(self, task: str) -> Task:
        """Production back to the version before; a second call swaps them again."""
        return self._run(calls.rollback(task))

    def delete(self, task: str, version: int | None = None) -> None:
        """Delete one version, or the whole task."""
        self._run(calls.delete(task, version))

    def info(self) -> dict[str, Any]:
        """The server's version, backbone, device, methods and resident adapters."""
        return self._run(calls.info())

    def limits(self) -> dict[str, Any]:
        """Every limit of the server, and the tolerance of its answers."""
        return self._run(calls.limits())

    def ready(self) -> bool:
        """Whether the server takes requests now; False for one that is absent, starting or draining."""
        return self._not_ready() is None

    def wait_ready(self, timeout_s: float = 60.0, on_wait: OnWait | None = None) -> None:
        """Return when the server takes requests; raises Unavailable after `timeout_s`.

        `on_wait` is told why it does not, whenever that changes. What waiting cannot mend is raised at once.
        """
        waiting = Waiting(str(self._http.base_url), timeout_s, on_wait)
        while (reason := self._not_ready(waiting.left_s())) is not None:
            waiting.go_on(reason)
            time.sleep(POLL_S)

    def _not_ready(self, timeout_s: float | None = None) -> str | None:
        """Why the server takes no requests; None if it does."""
        call = calls.ready()
        try:
            call.answer(self._send(call, timeout_s))  # at once, whatever it is
        except (ConnectionFailed, Unavailable) as error:
            return str(error)
        return None

    def _run(self, call: Call[T]) -> T:
        reply, attempt = self._send(call), 0
        while (seconds := retry.wait_s(reply, attempt, self._retries)) is not None:
            time.sleep(seconds)
            reply, attempt = self._send(call), attempt + 1
        return call.answer(reply)

    def _send(self, call: Call[T], timeout_s: float | None = None) -> Reply:
        try:
            return _reply(self._http.request(call.method, call.path, **_parts(call, timeout_s)))
        except httpx.HTTPError as error:
            raise _connection_failed(error, str(self._http.base_url)) from error


class AsyncClient:
    """The same client for asyncio: every method of Client, awaited; usable in an `async with` block.

    async with AsyncClient("http://127.0.0.1:8000") as client:
        (await client.predict("intent", "Where is my parcel?")).label
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries = retries
        self._http = httpx.AsyncClient(transport=transport, limits=POOL, **_settings(url, token, timeout))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    @overload
    async def predict(  # type: ignore[overload-overlap]  # a str is also an iterable of str
        self, task: str, inputs: Item, **options: Unpack[Options]
    ) -> Prediction: ...
    @overload
    async def predict(
        self, task: str, inputs: Iterable[Item], **options: Unpack[Options]
    ) -> list[Prediction]: ...
    async def predict(
        self, task: str, inputs: Inputs, **options: Unpack[Options]
    ) -> Prediction | list[Prediction]:
        return await self._run(calls.predict(task, inputs, options))

    async def predict_tasks(
        self, tasks: Iterable[str], inputs: Inputs, **options: Unpack[Options]
    ) -> dict[str, list[Prediction]]:
        return await self._run(calls.predict_tasks(tasks, inputs, options))

    async def push(
        self,
        file: str | Path | bytes,
        task: str | None = None,
        *,
        alias: str | None = "production",
        wait_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> Pushed:
        name, data = await asyncio.to_thread(_file, file, task)
        if wait_s is not None:
            await self.wait_ready(wait_s, on_wait)
        return await self._run(calls.push(name, data, alias))

    async def tasks(self, part: str | None = None, *, limit: int | None = None) -> list[Task]:
        listing = calls.Listing(part, limit)
        while not listing.done:
            listing.add(await self._run(listing.call()))
        return listing.tasks

    async def task(self, name: str) -> Task:
        return await self._run(calls.task(name))

    async def version(self, name: str, number: int) -> Version:
        return await self._run(calls.version(name, number))

    async def promote(
        self, task: str, version: int, *, alias: str = "production", expect_revision: int | None = None
    ) -> Task:
        return await self._run(calls.promote(task, version, alias, expect_revision))

    async def rollback(self, task: str) -> Task:
        return await self._run(calls.rollback(task))

    async def delete(self, task: str, version: int | None = None) -> None:
        await self._run(calls.delete(task, version))

    async def info(self) -> dict[str, Any]:
        return await self._run(calls.info())

    async def limits(self) -> dict[str, Any]:
        return await self._run(calls.limits())

    async def ready(self) -> bool:
        return await self._not_ready() is None

    async def wait_ready(self, timeout_s: float = 60.0, on_wait: OnWait | None = None) -> None:
        waiting = Waiting(str(self._http.base_url), timeout_s, on_wait)
        while (reason := await self._not_ready(waiting.left_s())) is not None:
            waiting.go_on(reason)
            await asyncio.sleep(POLL_S)

    async def _not_ready(self, timeout_s: float | None = None) -> str | None:
        call = calls.ready()
        try:
            call.answer(await self._send(call, timeout_s))
        except (ConnectionFailed, Unavailable) as error:
            return str(error)
        return None

    async def _run(self, call: Call[T]) -> T:
        reply, attempt = await self._send(call), 0
        while (seconds := retry.wait_s(reply, attempt, self._retries)) is not None:
            await asyncio.sleep(seconds)
            reply, attempt = await self._send(call), attempt + 1
        return call.answer(reply)

    async def _send(self, call: Call[T], timeout_s: float | None = None) -> Reply:
        try:
            return _reply(await self._http.request(call.method, call.path, **_parts(call, timeout_s)))
        except httpx.HTTPError as error:
            raise _connection_failed(error, str(self._http.base_url)) from error


def _settings(url: str, token: str | None, timeout: float) -> dict[str, Any]:
    token = trimmed(token or "")
    if fault := fault_of(token):
        raise Unauthorized(f"the token {fault}; nothing was sent")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        base = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise ConnectionFailed(f"{url!r} is not an address: {error}") from error
    if base.scheme not in ("http", "https") or not base.host:
        raise ConnectionFailed(f"{url!r} is not an address: write it as http://host:port")
    own_machine = base.host in LOOPBACK  # a proxy from the environment must not come between
    return {"base_url": base, "headers": headers, "timeout": timeout, "trust_env": not own_machine}


def _parts(call: Call[T], timeout_s: float | None) -> dict[str, Any]:
    """What httpx sends; `timeout_s` None is the client's own."""
    parts = {"content": call.body or None, "params": dict(call.params) or None, "headers": dict(call.headers)}
    return parts if timeout_s is None else parts | {"timeout": timeout_s}


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.headers, response.content)


def _connection_failed(error: httpx.HTTPError, url: str) -> TrunklineError:
    if isinstance(error, httpx.TimeoutException):
        return ConnectionFailed(
            f"{url} did not answer in time: raise the timeout, or send fewer inputs at once"
        )
    if isinstance(error, httpx.ConnectError):
        return ConnectionFailed(
            f"nothing answers at {url} ({error}): is the server running, and is this its address?"
        )
    return ConnectionFailed(f"the connection to {url} broke ({type(error).__name__}: {error})")


def _file(file: str | Path | bytes, task: str | None) -> tuple[str, bytes]:
    data = file if isinstance(file, bytes) else Path(file).read_bytes()
    name = task or peek_task(data)
    if name is None:
        what = "these bytes" if isinstance(file, bytes) else str(file)
        raise Invalid(
            f"{what} is not a whole adapter file: no task name can be read from its first bytes. It may be "
            "truncated or of another format; `trunkline inspect` says what is wrong. Nothing was sent"
        )
    return name, data
