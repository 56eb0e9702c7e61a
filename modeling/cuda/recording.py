"""Recording a pass: on CUDA a graph, which one call of the driver replays; on a CPU the pass itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Run = Callable[[], Tensor]


class Recorder:
    """Of one device. Its graphs share memory for what they keep for themselves: one runs at a time, and its
    result is read before the next.
    """

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def __call__(self, run: Run) -> Run:
        """What computes `run()` again, from the same buffers into the same result."""
        return run if self._pool is None else self._graph(run)

    def _graph(self, run: Run) -> Run:
        """A first run outside lets libraries and Triton prepare themselves, which cannot be recorded."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = run()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay
