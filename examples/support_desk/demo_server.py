"""A `trunkline serve` process for the time of a `with` block. Knows processes and ports; knows no tasks.

However the block ends, the server is told to stop with SIGTERM and has to end by itself with status 0.
"""

import os
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from trunkline import Client

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.2
_LOG_TAIL_LINES = 15


class DemoError(Exception):
    """Something is not as it should be; the message says what, and where to look."""


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def own_environment() -> dict[str, str]:
    """This environment without TRUNKLINE_* settings: the demo must not meet somebody's store or token."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}


class Server:
    """`command` running in the background, with its log in `log`.

    Raises DemoError on entry when it does not get ready, on exit when it does not end cleanly; an error from
    inside the block goes first.
    """

    def __init__(self, command: list[str], url: str, log: Path) -> None:
        """Start nothing yet. `command` has to listen at `url`."""
        self.url = url
        self._command, self._log = command, log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        """Start, and wait until it takes requests."""
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then stops the server in order.
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=own_environment(), start_new_session=True
            )
        try:
            self._wait_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; complain about the way it ended unless the block has a complaint of its own."""
        status = self.stop()
        if error is None and status != 0:
            raise DemoError(
                f"the server ended with status {status} on SIGTERM, expected 0\n{self.log_tail()}"
            )

    def stop(self) -> int | None:
        """SIGTERM, wait, kill if it has to be; returns the exit status, None when it never started."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except BaseException as error:
            self._process.kill()
            self._process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return self._process.returncode
            raise

    def log_tail(self) -> str:
        """The last lines of its log, under the log's name."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"{self._log}:", *lines[-_LOG_TAIL_LINES:]])

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        with Client(self.url, timeout=5.0) as client:
            while not client.ready():
                if process.poll() is not None:
                    raise DemoError(
                        f"the server ended at once (status {process.returncode})\n{self.log_tail()}"
                    )
                if time.monotonic() > deadline:
                    raise DemoError(f"no server after {READY_TIMEOUT_S:g} s\n{self.log_tail()}")
                time.sleep(POLL_S)
