"""Which errors become one sentence and status 1, and how it reads; others are bugs with a traceback."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from adapters_store import AdapterFileError, NotFound
from failures import Failure
from modeling.errors import AdapterError, UnknownNameError
from proof.errors import Refused
from training.errors import DataError
from trunkline import Invalid
from trunkline import Problem as ListedProblem
from trunkline.cli.boundary import guarded, is_expected

FAILURES = [Failure("a", "1", "2", "Change it."), Failure("b", "3", "4", "Change it.")]
LINES = ["  - a: got 1; allowed: 2. Change it.", "  - b: got 3; allowed: 4. Change it."]


def _told(error: Exception, capsys: pytest.CaptureFixture[str]) -> list[str]:
    @guarded
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        command()
    assert caught.value.code == 1
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (DataError("rows.csv: no rows"), ["error: rows.csv: no rows"]),
        (NotFound("no task 'x'"), ["error: no task 'x'"]),
        (UnknownNameError("method", "x", ["b", "a"]), ["error: unknown method 'x'; known: a, b"]),
        (FileNotFoundError(2, "No such file", "x.txt"), ["error: x.txt: No such file"]),
        (AdapterFileError(FAILURES), ["error: the adapter file is refused (2 problems)", *LINES]),
        (AdapterError(FAILURES), ["error: 2 things are wrong", *LINES]),
        (Refused(FAILURES), ["error: the adapter cannot be served", *LINES]),
        (
            Invalid("refused", errors=(ListedProblem("a", "1", "2", "Change it."),), request_id="r7"),
            ["error: refused", LINES[0], "  (request r7)"],
        ),
        (Invalid(""), ["error: Invalid"]),
    ],
)
def test_an_expected_error_is_a_sentence_and_its_list(
    error: Exception, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _told(error, capsys) == lines


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), AssertionError("this is a bug")])
def test_what_nobody_expects_keeps_its_traceback(error: Exception) -> None:
    @guarded
    def command() -> None:
        raise error

    with pytest.raises(type(error)):
        command()


def test_a_closed_pipe_is_left_to_the_shell() -> None:
    assert not is_expected(BrokenPipeError(32, "Broken pipe"))


def test_ctrl_c_is_said_and_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    @guarded
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        command()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_problem_reads_well_whatever_it_lacks() -> None:
    @dataclass(frozen=True)
    class Case:
        problem: ListedProblem
        text: str

    for case in (
        Case(ListedProblem("a", "1", "2", "Fix."), "a: got 1; allowed: 2. Fix."),
        Case(ListedProblem("a", allowed="2"), "a: allowed: 2"),
        Case(ListedProblem(message="only this"), "only this"),
        Case(ListedProblem("a", message="this"), "a: this"),
        Case(ListedProblem(remedy="Fix."), "Fix."),
    ):
        assert str(case.problem) == case.text
