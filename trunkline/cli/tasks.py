"""`push`, `tasks`, `promote`, `rollback`, `delete`: what is on a server, and what answers there."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from trunkline.cli.boundary import guarded
from trunkline.cli.options import DEFAULT_URL, AdapterPath, AsJson, TaskName, Timeout, Token, Url
from trunkline.cli.printing import labels_of, note, print_facts, print_json, print_table, size

if TYPE_CHECKING:
    from trunkline.answers import Pushed, Task, Version

VersionNumber = Annotated[
    int | None, typer.Argument(metavar="[VERSION]", min=1, help="Version (or write TASK@VERSION).")
]


def register(app: typer.Typer) -> None:
    for command in (push, tasks, promote, rollback, delete):
        app.command(rich_help_panel="Use a server")(command)


@guarded
def push(
    file: AdapterPath,
    task: Annotated[str | None, typer.Option(help="Task name, if not the one in the file.")] = None,
    alias: Annotated[
        str, typer.Option(help="Alias to point at the new version; '' moves none.")
    ] = "production",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a server that is still starting, or not there yet.")
    ] = False,
    wait_seconds: Annotated[float, typer.Option(min=0, help="The longest that --wait waits.")] = 300.0,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Upload an adapter file; the server checks it, replays its probes, and then answers with it.

    Example: trunkline push intent.safetensors --alias staging
    """
    from trunkline.client import Client

    longest_s = wait_seconds if wait else None
    with Client(url, token=token, timeout=timeout) as client:
        pushed = client.push(file, task, alias=alias or None, wait_s=longest_s, on_wait=_tell_waiting)
    if as_json:
        print_json(pushed)
    else:
        print_facts(_pushed_facts(pushed))


@guarded
def tasks(
    name: Annotated[
        str | None, typer.Argument(metavar="[TASK]", help="Only this task, every version.")
    ] = None,
    search: Annotated[str | None, typer.Option(help="Only tasks with this in their names.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="List the first so many; all when not given.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """List the tasks of a server, or the versions of one and an input as it must be sent.

    Example: trunkline tasks intent
    """
    from trunkline.client import Client

    if name is not None and (search is not None or limit is not None):
        raise typer.BadParameter("--search and --limit are for the list of tasks: leave them out, or TASK")
    with Client(url, token=token, timeout=timeout) as client:
        if name is not None:
            _print_one(client.task(name), as_json)
            return
        more = None if limit is None else limit + 1  # one more tells whether there are more
        listed = client.tasks(search, limit=more)
    shown = listed[:limit]
    if as_json:
        print_json(shown)
    elif shown:
        _print_tasks(shown)
    else:
        note(_nothing(search))
    if len(listed) > len(shown):
        note(f"only the first {len(shown)} tasks: raise --limit, or leave it out")


@guarded
def promote(
    task: TaskName,
    version: VersionNumber = None,
    alias: Annotated[str, typer.Option(help="Alias to move.")] = "production",
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Point an alias at a version; new requests get it, running ones finish on the old one.

    Example: trunkline promote intent 3
    """
    from trunkline.client import Client

    name, number = _reference(task, version)
    if number is None:
        raise typer.BadParameter("say which version: trunkline promote TASK VERSION")
    with Client(url, token=token, timeout=timeout) as client:
        _print_state(client.promote(name, number, alias=alias), as_json)


@guarded
def rollback(
    task: TaskName,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Go back to the version that was production before; once more swaps them again.

    Example: trunkline rollback intent
    """
    from trunkline.client import Client

    with Client(url, token=token, timeout=timeout) as client:
        _print_state(client.rollback(task), as_json)


@guarded
def delete(
    task: TaskName,
    version: VersionNumber = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 60.0,
) -> None:
    """Delete one version of a task, or the task with all its versions.

    Example: trunkline delete intent 2 --yes
    """
    from trunkline.client import Client

    name, number = _reference(task, version)
    what = f"{name}@{number}" if number else f"{name} and all its versions"
    if not yes:
        _confirm(f"Delete {what} from {url}?")
    with Client(url, token=token, timeout=timeout) as client:
        client.delete(name, number)
    note(f"deleted {what}")


def _tell_waiting(reason: str) -> None:
    note(f"waiting: {reason}")


def _reference(task: str, version: int | None) -> tuple[str, int | None]:
    """The name and version of "intent 3" or "intent@3"."""
    name, at, number = task.partition("@")
    if not at:
        return task, version
    if not number.isdecimal() or int(number) < 1 or version is not None:
        raise typer.BadParameter(f"{task!r} is not TASK VERSION or TASK@VERSION with a version number")
    return name, int(number)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: add --yes")
    if not typer.confirm(question):
        raise SystemExit(1)


def _pushed_facts(pushed: Pushed) -> list[tuple[str, object]]:
    probes = pushed.probes
    follow = f"; {probes['pending']} follow" if probes and probes.get("pending") else ""
    replayed = (
        f"{probes['count']} replayed, largest difference {probes['max_difference']:.1e}{follow}"
        if probes
        else None
    )
    return [
        (
            "task",
            f"{pushed.task}@{pushed.version}"
            + ("" if pushed.created else " (the same bytes were there already)"),
        ),
        ("method", pushed.method),
        ("labels", labels_of(pushed.labels)),
        ("size", size(pushed.size_bytes)),
        ("digest", pushed.digest),
        ("aliases", pushed.aliases),
        ("probes", replayed),
    ]


def _print_state(state: Task, as_json: bool) -> None:
    if as_json:
        print_json(state)
    else:
        print_facts([("task", state.task), ("aliases", state.aliases), ("revision", state.revision)])


def _answering(task: Task) -> Version | None:
    """The version to show for a task: production, else the newest."""
    chosen = task.production or max((version.version for version in task.versions), default=None)
    return next((version for version in task.versions if version.version == chosen), None)


def _nothing(search: str | None) -> str:
    if search:
        return f"no task has {search!r} in its name"
    return "no tasks yet: trunkline push FILE adds one"


def _print_one(task: Task, as_json: bool) -> None:
    if as_json:
        print_json(task)
    else:
        _print_versions(task)


def _print_tasks(listed: list[Task]) -> None:
    rows = []
    for task in listed:
        shown = _answering(task)
        about = (
            (shown.method, shown.kind, len(shown.labels), size(shown.size_bytes), shown.state)
            if shown
            else ("",) * 5
        )
        rows.append((task.task, task.production, len(task.versions), *about))
    print_table(["task", "production>", "versions>", "method", "kind", "labels>", "size>", "state"], rows)


def _print_versions(task: Task) -> None:
    rows = []
    for version in task.versions:
        aliases = [alias for alias, number in task.aliases.items() if number == version.version]
        state = f"{version.state}: {version.reason}" if version.reason else version.state
        about = (
            version.method,
            version.kind,
            labels_of(version.labels),
            size(version.size_bytes),
            version.created,
            state,
        )
        rows.append((version.version, aliases, *about))
    print_table(["version>", "aliases", "method", "kind", "labels", "size>", "created", "state"], rows)
    shown = _answering(task)
    if shown is not None and shown.example is not None:
        example = json.dumps(shown.example, ensure_ascii=False)
        print_facts([(f"example input of {task.task}@{shown.version}", example)])
