"""Rows to a server in several requests at once, answers in the order of the rows. Opens no files."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from training.rows.tables import Table
from trunkline.answers import ItemError, Prediction, Version
from trunkline.bulk.fields import Reading, Refused, items_of
from trunkline.bulk.source import inputs_of
from trunkline.calls import Options
from trunkline.errors import ConnectionFailed, Invalid, TooLarge, TrunklineError, Unavailable

if TYPE_CHECKING:
    from trunkline.client import Client

T = TypeVar("T")
AnswerT = TypeVar("AnswerT")

_WAITS_S = (1.0, 2.0, 4.0)
"""Before asking again where the connection broke; a server that restarts is there again by then."""
_PLACE = re.compile(r"^inputs\[\d+\]")
"""Of an item in its request, which nobody has seen."""
_GONE = frozenset({"unknown_task", "adapter_unavailable"})


@dataclass(frozen=True)
class Asked:
    """A task as it was asked, and the version that answers every row."""

    reference: str
    task: str
    version: Version

    @property
    def pinned(self) -> str:
        """The reference that means this version, wherever aliases point."""
        return f"{self.task}@{self.version.version}"


def resolve(client: Client, reference: str) -> Asked:
    """The version that a reference means now.

    Raises:
        NotFound: no such task. Invalid: no such version or alias, or one that could not be loaded.
    """
    name, _, wanted = reference.partition("@")
    task = client.task(name)
    numbers = {str(version.version): version for version in task.versions}
    number = wanted if wanted in numbers else str(task.aliases.get(wanted or "production", ""))
    if number not in numbers:
        known = ", ".join([*numbers, *task.aliases]) or "nothing"
        raise Invalid(f"task {name} has no {wanted or 'production'} ({reference}); there are {known}")
    version = numbers[number]
    if version.state == "failed":
        raise Invalid(f"{name}@{number} could not be loaded by the server: {version.reason}; ask for another")
    return Asked(reference, name, version)


@dataclass(frozen=True)
class Question:
    """What every row is asked. `readings` has one for each of `asked`; None: the rows are inputs."""

    asked: tuple[Asked, ...]
    readings: tuple[Reading | None, ...]
    choices: tuple[str, ...]
    options: Options

    def items(self, table: Table, reading: Reading | None) -> list[Any]:
        """What is asked of each row, or Refused."""
        if reading is None:
            return list(inputs_of(table, self.choices))
        items = items_of(reading, [table.values(column) for column in reading.columns])
        return [
            Refused(f"{table.where(row)}: {item.message}") if isinstance(item, Refused) else item
            for row, item in enumerate(items)
        ]


@dataclass(frozen=True)
class Answered:
    """Rows with the answers of each task, in the order of the question, and what each was asked."""

    table: Table
    items: tuple[list[Any], ...]
    predictions: tuple[list[Prediction], ...]


def answer(client: Client, question: Question, table: Table) -> Answered:
    """All tasks on the rows of one table; tasks that read alike are asked together.

    A row that cannot be read, or for which the server refuses a request, fails alone.
    """
    items: dict[int, list[Any]] = {}
    predictions: dict[int, list[Prediction]] = {}
    for reading in dict.fromkeys(question.readings):
        places = [place for place, one in enumerate(question.readings) if one == reading]
        asked = [question.asked[place] for place in places]
        found = question.items(table, reading)
        sound = [item for item in found if not isinstance(item, Refused)]
        answers = _ask(client, asked, sound, question.options)
        for place, one, own in zip(places, asked, answers, strict=True):
            items[place] = found
            predictions[place] = _by_row(table, one, found, own)
    order = range(len(question.asked))
    return Answered(table, tuple(items[i] for i in order), tuple(predictions[i] for i in order))


def _by_row(
    table: Table, asked: Asked, items: Sequence[Any], answers: Iterable[Prediction]
) -> list[Prediction]:
    """An answer for each row, of which the refused ones were not asked; errors name the row."""
    left, found = iter(answers), []
    for row, item in enumerate(items):
        if isinstance(item, Refused):
            found.append(_failed(asked, "invalid_item", item.message))
            continue
        one = next(left)
        if one.error is not None:
            message = _PLACE.sub(table.where(row), one.error.message)
            one = replace(one, error=replace(one.error, message=message))
        found.append(one)
    return found


def _ask(
    client: Client, asked: Sequence[Asked], items: list[Any], options: Options
) -> list[list[Prediction]]:
    """Each task's answers. What the server refuses as a whole is halved until the item is found."""
    if not items:
        return [[] for _ in asked]
    try:
        return [
            _checked(one, own) for one, own in zip(asked, _sent(client, asked, items, options), strict=True)
        ]
    except (Invalid, TooLarge) as error:
        if not _is_about_items(error):
            raise
        if len(items) == 1:
            return [[_failed(one, error.code or "refused", str(error))] for one in asked]
    half = len(items) // 2
    first, rest = (_ask(client, asked, part, options) for part in (items[:half], items[half:]))
    return [[*one, *other] for one, other in zip(first, rest, strict=True)]


def _sent(
    client: Client, asked: Sequence[Asked], items: list[Any], options: Options
) -> list[list[Prediction]]:
    waits = iter(_WAITS_S)
    while True:
        try:
            if len(asked) == 1:
                return [client.predict(asked[0].pinned, items, **options)]
            names = list(dict.fromkeys(one.pinned for one in asked))
            found = client.predict_tasks(names, items, **options)
            return [found[one.pinned] for one in asked]
        except ConnectionFailed as error:
            wait = next(waits, None)
            if wait is None or isinstance(error.__cause__, httpx.TimeoutException):
                raise
            time.sleep(wait)


def _checked(asked: Asked, predictions: list[Prediction]) -> list[Prediction]:
    """The answers; raises Unavailable where the version is gone, or another one answered."""
    for one in predictions:
        if one.error is not None and one.error.code in _GONE:
            raise Unavailable(f"{asked.pinned} does not answer any more: {one.error.message}")
        if one.version is not None and one.version != asked.version.version:
            raise TrunklineError(f"{asked.pinned} was asked and version {one.version} answered")
    return [replace(one, task=asked.task, version=asked.version.version) for one in predictions]


def _is_about_items(error: TrunklineError) -> bool:
    """Whether fewer or other items could be answered: a body too large or unreadable, or `inputs`."""
    if error.status in (400, 413):
        return True
    return (
        error.status == 422
        and bool(error.errors)
        and all(problem.field.split(".")[0].split("[")[0] == "inputs" for problem in error.errors)
    )


def _failed(asked: Asked, code: str, message: str) -> Prediction:
    return Prediction(asked.task, asked.version.version, error=ItemError(code, message, 0))


def in_order(do: Callable[[T], AnswerT], parts: Iterable[T], in_flight: int) -> Iterator[AnswerT]:
    """What `do` makes of each part, at most `in_flight` at a time, in order.

    The threads are daemons: whoever is interrupted does not wait for a server.
    """
    waiting: deque[Future[AnswerT]] = deque()
    for part in parts:
        waiting.append(_begun(do, part))
        if len(waiting) >= in_flight:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _begun(do: Callable[[T], AnswerT], part: T) -> Future[AnswerT]:
    future: Future[AnswerT] = Future()

    def run() -> None:
        try:
            future.set_result(do(part))
        except BaseException as error:  # it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
