"""Passes for a GPU: recorded once per size and kind of batch over buffers that stay, then replayed.

What depends on the batch stands in the buffers, what depends on the adapters in the banks, which are read by
slot: adapters come and go without a new recording. Everything but the recording itself runs on a CPU, too.
"""

from .path import RecordedPath

__all__ = ["RecordedPath"]
