"""The process that owns the device: uvicorn around the application, signals, and the exit status.

With `workers` it has front processes on the port (`fronts/`), and listens on a Unix socket for them alone.

SIGTERM and SIGINT: `/ready` and new work answer 503, what was accepted is finished, then the process ends
with 0. A second signal ends it at once, and so does the first one while it loads: nothing was accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from types import FrameType

import uvicorn
import uvloop

from adapters_store import UnusableStore
from adapters_store.folders import prepare

from . import logs
from .app import build_app
from .errors import ConfigurationError
from .fronts.processes import Fronts, application_socket, listeners
from .preflight import address_refusal, refusal
from .settings import Settings
from .state import Service

log = logging.getLogger(__name__)

# How long one thread may keep the interpreter from another: a bulk answer that is being built would otherwise
# hold up the device thread by 5 ms at every step of a pass.
_SWITCH_INTERVAL_S = 0.001

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def serve(settings: Settings) -> int:
    """Serve until a signal; returns 0 after a drain, 1 if it could not start, 2 for bad settings or store."""
    logs.configure(settings.log_level)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        process = _Process(settings)
    except ConfigurationError as error:
        log.error("%s", error)
        return EXIT_USAGE
    reason = refusal(settings) or address_refusal(settings.host, settings.port)
    if reason is not None:
        sys.stderr.write(f"error: {reason}\n")
        return EXIT_FAILED
    try:
        prepare(settings.store)
    except UnusableStore as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE
    return process.run()


class _Process:
    """The uvicorn server with our own signals: its own would end it with the signal's status, undrained."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._failed = self._draining = False
        self._fronts: Fronts | None = None
        app = build_app(settings, on_started=self._on_started, on_loading=self._on_loading)
        self._service: Service = app.state.service
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,  # nothing here asks who called, or by which scheme
                timeout_graceful_shutdown=5,
            )
        )
        self._server.handle_exit = self._on_signal  # type: ignore[method-assign, assignment]

    def run(self) -> int:
        gc.disable()  # of the hundreds of thousands of objects that libraries make, none will be garbage
        try:
            if self._settings.workers:
                uvloop.run(self._serve_fronts())
            else:
                self._server.run()
        except ConfigurationError as error:
            log.error("%s", error)
            return EXIT_USAGE
        except SystemExit as error:  # uvicorn's way to say that it could not listen
            return EXIT_FAILED if error.code else EXIT_OK
        finally:
            gc.enable()
            _let_signals_end_it()
        return EXIT_FAILED if self._failed or not self._server.started else EXIT_OK

    async def _serve_fronts(self) -> None:
        """As `serve` of the server, with fronts before it from its start until all is drained."""
        settings = self._settings
        try:
            every = listeners(settings.host, settings.port, settings.workers)
        except OSError as error:
            log.error("cannot listen on %s port %d: %s", settings.host, settings.port, error)
            raise SystemExit(EXIT_FAILED) from None
        host, port = settings.host, every[0][0].getsockname()[1]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        with application_socket() as own:
            self._fronts = Fronts(self._service, every, own.getsockname())
            keeping = asyncio.create_task(self._fronts.keep())
            log.info("Uvicorn running on http://%s in %d front processes", address, settings.workers)
            try:
                await self._server.serve(sockets=[own])
            finally:
                if self._server.force_exit:
                    self._fronts.kill()
                await self._fronts.end()
                keeping.cancel()

    def _on_loading(self) -> None:
        """The libraries are imported, and the first large tensors come next."""
        from modeling.allocator import keep_freed_memory

        gc.freeze()
        gc.enable()
        keep_freed_memory()

    def _on_started(self, works: bool) -> None:
        if not works:
            self._failed = self._server.should_exit = True
            return
        # What exists now lives as long as the process: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        if self._fronts is not None:  # as soon as the service has its parts
            asyncio.get_running_loop().call_soon(self._hand_out, self._fronts)

    def _hand_out(self, fronts: Fronts) -> None:
        if self._service.phase == "ready":
            fronts.tell_tokenizer(self._service.parts.model.backbone.text)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._draining:
            self._server.should_exit = self._server.force_exit = True
            return
        self._draining = True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # before the loop runs there is nothing to drain
            self._server.should_exit = True
            return
        log.info("signal", extra={"signal": signal.Signals(number).name})
        starts = self._service.phase == "starting"
        loop.call_soon_threadsafe(self._leave if starts else lambda: loop.create_task(self._drain()))

    async def _drain(self) -> None:
        self._service.drain()
        if not await self._service.drained(self._settings.drain_timeout_s):
            log.error("requests were cut off", extra={"in_flight": self._service.num_in_flight})
        if self._fronts is not None:
            await self._fronts.end()
        self._server.should_exit = True

    def _leave(self) -> None:
        """End at once: threads that import or load would be waited for, and nothing else could stop them."""
        log.info("stopped before it was ready")
        if self._fronts is not None:
            self._fronts.vanish()
        logging.shutdown()
        os._exit(EXIT_OK)


def _let_signals_end_it() -> None:
    """Nothing is left to be finished: one more signal has no handler that could raise while Python ends."""
    with contextlib.suppress(ValueError):  # of another thread, in tests
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
