"""Runs the documents' commands as a person types them: a shell, a server in the background, its own folder.

`trunkline` is a small script in the PATH that adds what a test needs: short trainings, a free port. Nothing
else is changed. Commands that build or need other programs (make, docker) are looked at, not run.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from trunkline import Client

README_ADDRESS = "http://127.0.0.1:8000"
QUICK = {"train": "--epochs 1 --max-train-rows 64 --max-validation-rows 32 --quiet"}
NOT_RUN = ("make", "source", "docker")
COMMAND_TIMEOUT_S = 1_800


class Tour:
    """A shell session in `folder`, where `examples` is the repository's."""

    def __init__(self, folder: Path, root: Path, *, quick: bool = True) -> None:
        """Start nothing yet."""
        self.folder, self.root = folder, root
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._server: subprocess.Popen[bytes] | None = None
        (folder / "examples").symlink_to(root / "examples")
        self._add_program(QUICK if quick else {})

    def __enter__(self) -> Tour:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)
            status = self._server.wait(60)
            assert status == 0, f"the server ended with {status}:\n{self._log()}"

    def run(self, command: str) -> str:
        """What the command printed on stdout. Raises AssertionError when it fails."""
        command = command.replace(README_ADDRESS, self.url)
        if command.endswith("&"):
            self._serve(shlex.split(command.removesuffix("&")))
            return ""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run_python(self, source: str) -> str:
        """What a program printed. Raises AssertionError when it fails."""
        path = self.folder / "example.py"
        path.write_text(source.replace(README_ADDRESS, self.url))
        return self.run(f"{sys.executable} {path}")

    def _serve(self, command: list[str]) -> None:
        port = self.url.rsplit(":", 1)[1]
        program = [str(self.folder / "bin" / command[0]), *command[1:], "--port", port]
        with (self.folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                program, cwd=self.folder, env=self._environment(), stdout=log, stderr=log
            )
        with Client(self.url) as client:
            client.wait_ready(300)

    def _log(self) -> str:
        return (self.folder / "server.log").read_text()

    def _environment(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(self.root), "TRUNKLINE_URL": self.url, "NO_COLOR": "1"}
        return {**os.environ, **own}

    def _add_program(self, added: dict[str, str]) -> None:
        folder = self.folder / "bin"
        folder.mkdir()
        cases = "".join(f'{name}) set -- "$@" {options};;\n' for name, options in added.items())
        choice = f'case "$1" in\n{cases}esac\n' if cases else ""
        script = folder / "trunkline"
        script.write_text(f'#!/bin/sh\n{choice}exec {sys.executable} -m trunkline "$@"\n')
        script.chmod(0o755)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
