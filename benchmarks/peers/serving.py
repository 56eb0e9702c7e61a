"""A minimal server around somebody's model: `POST /v1/predict {"task", "inputs"}`, as ours is asked.

One text a request. A model answers from a thread; who can run rows of several requests at once is given what
has arrived while it was busy (`Together`), the others one text after the other, behind a lock.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

One = Callable[[str, str], Any]
"""Task and text to an answer."""
Many = Callable[[Sequence[str], Sequence[str]], Sequence[Any]]
"""Tasks and texts, one of each for a row, to the answers."""
MAX_ROWS = 64


def locked(answer: One) -> One:
    """One caller at a time."""
    lock = threading.Lock()

    def alone(task: str, text: str) -> Any:
        with lock:
            return answer(task, text)

    return alone


class Together:
    """Rows of whoever waits go through the model together, up to `MAX_ROWS`."""

    def __init__(self, answer: Many) -> None:
        self._answer = answer
        self._waiting: queue.SimpleQueue[tuple[str, str, Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def __call__(self, task: str, text: str) -> "Future[Any]":
        future: Future[Any] = Future()
        self._waiting.put((task, text, future))
        return future

    def _run(self) -> None:
        while True:
            rows = [self._waiting.get()]
            while len(rows) < MAX_ROWS and not self._waiting.empty():
                rows.append(self._waiting.get())
            try:
                answers = self._answer([row[0] for row in rows], [row[1] for row in rows])
            except Exception as error:  # the callers are told, and the next ones are served
                for *_, future in rows:
                    future.set_exception(error)
                continue
            for (*_, future), answer in zip(rows, answers, strict=True):
                future.set_result(answer)


def serve(answer: One | Together, port: int) -> None:
    """Until it is stopped."""
    import asyncio

    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Asked(BaseModel):
        """A request."""

        task: str
        inputs: str

    app = FastAPI()

    def told(found: Any) -> dict[str, Any]:
        return {"predictions": [found]}

    if isinstance(answer, Together):

        async def waits(asked: Asked) -> dict[str, Any]:
            return told(await asyncio.wrap_future(answer(asked.task, asked.inputs)))

        app.post("/v1/predict")(waits)
    else:

        def computes(asked: Asked) -> dict[str, Any]:
            return told(answer(asked.task, asked.inputs))

        app.post("/v1/predict")(computes)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
