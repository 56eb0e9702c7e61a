"""What is remembered of stored files: it counts under the same circumstances, and damage costs only time."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters_store import AdapterStore
from adapters_store.blobs import digest_of
from adapters_store.proofs import Proof, Proofs

A, B, C = (digest_of(name.encode()) for name in "abc")


@pytest.fixture
def opened(tmp_path: Path) -> Proofs:
    return reopened(tmp_path)


def reopened(folder: Path, circumstances: str = "here") -> Proofs:
    return Proofs(folder / "proofs", circumstances, folder)


def test_what_was_noted_last_is_there_again(opened: Proofs, tmp_path: Path) -> None:
    assert opened.of(A) is None
    opened.note("begun", A)
    opened.note("proven", A, B)
    opened.note("refused", C, reason='probes.3: got "x"\n')
    for proofs in (opened, reopened(tmp_path)):
        assert proofs.of(A) == proofs.of(B) == Proof("proven")
        assert proofs.of(C) == Proof("refused", 'probes.3: got "x"\n')
    reopened(tmp_path).note("begun", B)
    assert reopened(tmp_path).of(B) == Proof("begun")


def test_other_circumstances_leave_only_what_is_to_be_done(opened: Proofs, tmp_path: Path) -> None:
    opened.note("proven", A)
    opened.note("begun", B)
    opened.note("refused", C, reason="bad")
    other = reopened(tmp_path, "there")
    assert [other.of(one) for one in (A, B, C)] == [None, Proof("begun"), Proof("begun")]
    other.note("proven", A)
    assert reopened(tmp_path, "there").of(C) == Proof("begun")
    assert reopened(tmp_path).of(A) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-5],
        lambda text: text.replace("proven", "provem"),
        lambda text: text.replace("trunkline", "trunkl1ne"),
        lambda text: text.replace(A, A[:-1] + ("0" if A[-1] != "0" else "1")),
        lambda text: "",
        lambda text: text.replace(' ""', ""),
        lambda text: text + "é",
    ],
)
def test_damage_proves_nothing(opened: Proofs, tmp_path: Path, damage: object) -> None:
    opened.note("proven", A)
    path = tmp_path / "proofs"
    path.write_text(damage(path.read_text()), encoding="utf-8")  # type: ignore[operator]
    again = reopened(tmp_path)
    assert again.of(A) is None
    again.note("proven", B)
    assert reopened(tmp_path).of(B) == Proof("proven")
    assert reopened(tmp_path).of(A) is None


def test_half_a_line_does_not_spoil_the_next(opened: Proofs, tmp_path: Path) -> None:
    opened.note("proven", A)
    with (tmp_path / "proofs").open("a") as file:
        file.write(B[:20])
    again = reopened(tmp_path)
    again.note("proven", C)
    found = reopened(tmp_path)
    assert [found.of(one) for one in (A, B, C)] == [Proof("proven"), None, Proof("proven")]


def test_files_that_are_gone_are_forgotten_and_proofs_that_do_not_hold(
    opened: Proofs, tmp_path: Path
) -> None:
    opened.note("proven", A, B)
    opened.note("begun", C)
    opened.keep({A, C})
    assert [reopened(tmp_path).of(one) for one in (A, B, C)] == [Proof("proven"), None, Proof("begun")]
    opened.forget_proven()
    opened.keep({A, C})
    assert [reopened(tmp_path).of(one) for one in (A, C)] == [None, Proof("begun")]


def test_a_read_only_store_is_read_and_not_written(opened: Proofs, tmp_path: Path) -> None:
    opened.note("proven", A)
    before = (tmp_path / "proofs").read_bytes()
    reading = Proofs(tmp_path / "proofs", "here", None)
    assert reading.of(A) == Proof("proven")
    reading.note("begun", B)
    reading.keep(set())
    assert (tmp_path / "proofs").read_bytes() == before


def test_the_store_keeps_them_beside_its_files(tmp_path: Path) -> None:
    AdapterStore(tmp_path / "s").proofs("here").note("proven", A)
    assert AdapterStore(tmp_path / "s").proofs("here").of(A) == Proof("proven")
