"""Every operation of the HTTP interface as a pure value: what to send, and how to read what comes back.

Both clients run these; this file opens no connection and keeps no state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

from trunkline.answers import ItemError, Prediction, Pushed, Task, Version, read, read_result
from trunkline.errors import TrunklineError
from trunkline.inputs import Inputs, is_single, to_body, to_list
from trunkline.problems import problem_error

T = TypeVar("T")

JSON = {"Content-Type": "application/json"}
PAGE_TASKS = 500  # asked for at a time

_Page = tuple[list[Task], str | None]  # and after which name to go on


class Options(TypedDict, total=False):
    """What may be asked of a prediction beside its task and inputs; see `Client.predict`."""

    top_k: int | None
    raw: bool
    truncate: bool
    generate: bool
    max_new_tokens: int | None


@dataclass(frozen=True)
class Reply:
    """What came back: the parts of an HTTP response that a call reads. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and the reading of its answer. `path` starts with "/" and is already quoted.

    `recover` may turn an error into an answer after all; None from it leaves the error.
    """

    method: str
    path: str
    read: Callable[[Any, int], T]
    body: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    recover: Callable[[TrunklineError], T | None] = lambda _: None

    def answer(self, reply: Reply) -> T:
        """The typed answer; raises the error of the tree that fits the reply."""
        if reply.status >= 400:
            return self._refused(problem_error(reply.status, reply.headers, reply.body))
        try:
            return self.read(json.loads(reply.body or b"null"), reply.status)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TrunklineError(
                f"{self.method} {self.path} answered {reply.status} with something this client cannot read "
                f"({type(error).__name__}: {error}): is this a trunkline server of the same version?",
                status=reply.status,
            ) from error

    def _refused(self, error: TrunklineError) -> T:
        recovered = self.recover(error)
        if recovered is None:
            raise error
        return recovered


def predict(task: str, inputs: Inputs, options: Options) -> Call[Prediction | list[Prediction]]:
    """`inputs` to one task: one prediction for a single input, else a list in the order of the inputs."""
    items, single = to_list(inputs), is_single(inputs)

    def read_predictions(answer: Any, _: int) -> Prediction | list[Prediction]:
        predictions = read_result(task, len(items), answer)
        return predictions[0].raise_for_error() if single else predictions

    return Call(
        "POST",
        "/v1/predict",
        read_predictions,
        to_body({"task": task, "inputs": items, **_chosen(options)}),
        headers=JSON,
        recover=lambda error: None if single else _short_list(task, items, error),
    )


def predict_tasks(
    tasks: Iterable[str], inputs: Inputs, options: Options
) -> Call[dict[str, list[Prediction]]]:
    """`inputs` to several tasks at once; the keys are the tasks as given."""
    if isinstance(tasks, str):
        raise TypeError(f"tasks must be a list of names; for one task call predict({tasks!r}, ...)")
    names, items = list(tasks), to_list(inputs)

    def read_results(answer: Any, _: int) -> dict[str, list[Prediction]]:
        results: Sequence[Mapping[str, Any]] = answer["results"]
        if len(results) != len(names):
            raise ValueError(f"{len(results)} results for {len(names)} tasks")
        pairs = zip(names, results, strict=True)
        return {name: read_result(name, len(items), result) for name, result in pairs}

    return Call(
        "POST",
        "/v1/predict",
        read_results,
        to_body({"tasks": names, "inputs": items, **_chosen(options)}),
        headers=JSON,
        recover=lambda error: {name: [] for name in names} if _is_empty(items, error) else None,
    )


def push(task: str, data: bytes, alias: str | None) -> Call[Pushed]:
    """An adapter file to the server as a version of `task`; `alias` None moves no alias."""
    return Call(
        "POST",
        f"/v1/tasks/{_part(task)}/versions",
        lambda answer, status: read(Pushed, {**answer, "created": status == 201}),
        body=data,
        params={"alias": (alias or "").encode(errors="replace").decode()},  # as `_part` does
        headers={"Content-Type": "application/octet-stream"},
    )


class Listing:
    """The tasks of a server page by page: `call` asks for the next one, `add` keeps it, until `done`.

    With `part` those that have it in their names, with `limit` the first so many. What a server adds or
    deletes meanwhile may be there or not; every other task is there once.
    """

    def __init__(self, part: str | None, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; allowed: 1 and more, or None for all")
        self.tasks: list[Task] = []
        self.done = False
        self._part, self._limit, self._after = part, limit, ""

    def call(self) -> Call[_Page]:
        left = PAGE_TASKS if self._limit is None else self._limit - len(self.tasks)
        params = {"limit": str(min(left, PAGE_TASKS))}
        if self._part:
            params["q"] = self._part.encode(errors="replace").decode()  # as `_part` does
        if self._after:
            params["after"] = self._after
        return Call("GET", "/v1/tasks", self._read, params=params)

    def add(self, page: _Page) -> None:
        found, following = page
        self.tasks += found
        full = self._limit is not None and len(self.tasks) >= self._limit
        self.done = full or following is None
        self._after = following or ""

    def _read(self, answer: Any, _: int) -> _Page:
        following = answer.get("next")
        if following is not None and following <= self._after:  # it would never end
            raise ValueError(f"the page after {self._after!r} says that {following!r} comes next")
        return [read(Task, one) for one in answer["tasks"]], following


def task(name: str) -> Call[Task]:
    return Call("GET", f"/v1/tasks/{_part(name)}", lambda answer, _: read(Task, answer))


def version(name: str, number: int) -> Call[Version]:
    return Call("GET", f"/v1/tasks/{_part(name)}/versions/{number}", lambda answer, _: read(Version, answer))


def promote(name: str, number: int, alias: str, expect_revision: int | None) -> Call[Task]:
    """Move an alias; with `expect_revision` only when nobody changed the task since."""
    unchanged = {} if expect_revision is None else {"If-Match": f'"{expect_revision}"'}
    path = f"/v1/tasks/{_part(name)}/aliases/{_part(alias)}"
    body = to_body({"version": number})
    return Call("PUT", path, lambda answer, _: read(Task, answer), body=body, headers=JSON | unchanged)


def rollback(name: str) -> Call[Task]:
    return Call("POST", f"/v1/tasks/{_part(name)}/rollback", lambda answer, _: read(Task, answer))


def delete(name: str, number: int | None) -> Call[None]:
    """Delete one version, or the whole task when `number` is None."""
    path = f"/v1/tasks/{_part(name)}"
    return Call("DELETE", path if number is None else f"{path}/versions/{number}", lambda _, __: None)


def info() -> Call[dict[str, Any]]:
    """The server's backbone, device and residents."""
    return Call("GET", "/v1/info", lambda answer, _: dict(answer))


def limits() -> Call[dict[str, Any]]:
    return Call("GET", "/v1/limits", lambda answer, _: dict(answer))


def ready() -> Call[bool]:
    """Whether the server takes requests; raises Unavailable while it does not."""
    return Call("GET", "/ready", lambda _, __: True)


def _chosen(options: Options) -> dict[str, Any]:
    """The options, without those left at the server's default. Raises TypeError for one that is none."""
    for name in options.keys() - Options.__optional_keys__:
        raise TypeError(f"predict() got an unexpected keyword argument {name!r}")
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _short_list(task: str, items: list[Any], error: TrunklineError) -> list[Prediction] | None:
    """What the server refuses as a whole, but for the caller is a list: of one failed item, or of none."""
    if _is_empty(items, error):
        return []
    if len(items) != 1 or not _is_about(error, "inputs.0"):
        return None
    return [Prediction(task, error=ItemError(error.code, str(error), 0))]


def _is_empty(items: list[Any], error: TrunklineError) -> bool:
    return not items and _is_about(error, "inputs")


def _is_about(error: TrunklineError, place: str) -> bool:
    return error.status == 422 and [problem.field for problem in error.errors] == [place]


def _part(name: str) -> str:
    """One path segment; a name such as "../x" stays one segment and is refused by the server."""
    quoted = quote(name, safe="", errors="replace")  # half a character makes a name that no server has
    return quoted.replace(".", "%2E") if set(name) == {"."} else quoted
