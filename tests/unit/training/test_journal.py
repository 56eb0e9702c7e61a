"""The state of an unfinished run on disk."""

from pathlib import Path

import pytest
import torch

from training.loop.journal import RESUMED, FileJournal


def test_what_was_saved_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "out.resume"
    first = FileJournal(path, "run")
    assert (first.found, first.load("head")) == (None, None)
    first.save("head", {"epoch": 3, "best": {"w": torch.ones(2)}})
    first.save("adapter", {"epoch": 1})
    again = FileJournal(path, "run")
    assert again.found == RESUMED
    head = again.load("head")
    assert head is not None
    assert torch.equal(head["best"]["w"], torch.ones(2))
    assert again.load("adapter") == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["out.resume"]


def test_another_run_and_damage_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "out.resume"
    FileJournal(path, "run").save("head", {"epoch": 3})
    assert "other settings" in (FileJournal(path, "another run").found or "")
    assert FileJournal(path, "another run").load("head") is None
    assert FileJournal(path, "run", resume=False).load("head") is None
    path.write_bytes(path.read_bytes()[:-20])
    damaged = FileJournal(path, "run")
    assert "cannot be read" in (damaged.found or "")
    assert damaged.load("head") is None


def test_a_file_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    path = tmp_path / "out.resume"
    torch.save({"format": 1, "fingerprint": "run", "stages": {"head": Evil()}}, path)
    assert "cannot be read" in (FileJournal(path, "run").found or "")
    assert not (tmp_path / "touched").exists()


def test_a_failed_save_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.resume"
    journal = FileJournal(path, "run")
    journal.save("head", {"epoch": 1})

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("training.loop.journal.os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        journal.save("head", {"epoch": 2})
    assert FileJournal(path, "run").load("head") == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["out.resume"]
