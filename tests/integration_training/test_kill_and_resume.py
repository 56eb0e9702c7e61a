"""A run that is killed with SIGKILL in the middle of an epoch, and then started again."""

import signal
import subprocess
import sys
from pathlib import Path

import torch

from adapters_store.adapter_file import read_adapter_file
from tests.unit.training.conftest import Told, agree, quick, write_task
from training.run import train
from training.settings.config import TrainConfig

KILLED = """
import os, signal, sys
from tests.unit.training.conftest import Told
from training.settings.config import TrainConfig
from training.run import train
import json

class Dying(Told):
    def step(self, loss):
        super().step(loss)
        if len(self.epochs) == 2 and loss is not None:
            os.kill(os.getpid(), signal.SIGKILL)

train(TrainConfig(**json.loads(sys.argv[1])), progress=Dying())
"""


def run_until_killed(config: TrainConfig) -> int:
    import json

    command = [sys.executable, "-c", KILLED, json.dumps(config.to_dict())]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert "Error" not in done.stderr, done.stderr
    return done.returncode


def test_a_killed_run_ends_in_the_same_file_when_started_again(tmp_path: Path, tiny_directory: Path) -> None:
    """The second start loads the checkpoint, finishes, and verifies the file in a real fresh process."""
    data = write_task(tmp_path / "data", "single_sentence")
    changes = {"backbone": str(tiny_directory), "epochs": 4}
    config = quick(data, tmp_path / "killed" / "demo.safetensors", **changes)
    assert run_until_killed(config) == -signal.SIGKILL
    folder = tmp_path / "killed"
    assert [path.name for path in folder.iterdir()] == ["demo.safetensors.resume"]

    told = Told()
    resumed = train(config, progress=told)
    assert any("resumed from demo.safetensors.resume" in note for note in told.notes)
    assert [epoch for epoch, *_ in told.epochs] == [3, 4]
    assert [path.name for path in folder.iterdir()] == ["demo.safetensors"]
    assert resumed.file is not None
    assert resumed.file.max_probe_difference < 1e-5

    whole = train(quick(data, tmp_path / "whole.safetensors", **changes), verify=agree)
    assert whole.history == resumed.history
    expected = read_adapter_file(tmp_path / "whole.safetensors").tensors
    found = read_adapter_file(folder / "demo.safetensors").tensors
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
