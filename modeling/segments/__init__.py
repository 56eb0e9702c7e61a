"""Row ops on packed segments in fixed buffers: what is asked for, computed by torch or by Triton kernels.

They read a bank's rows by the slots that stand in the buffers, so nothing on the host depends on who is
resident: what a GPU recorded stays right when adapters come and go. It knows no layers and no batches.
"""

from .calls import Operand, SegmentBlock, SegmentCall, SegmentKernels, Segments, SegmentScales
from .torch_form import TorchSegments

__all__ = [
    "Operand",
    "SegmentBlock",
    "SegmentCall",
    "SegmentKernels",
    "SegmentScales",
    "Segments",
    "TorchSegments",
    "segment_kernels",
]


def segment_kernels(device_type: str) -> SegmentKernels | None:
    """Of a device; None where it has none: a GPU without Triton."""
    if device_type == "cpu":
        return TorchSegments()
    try:
        from .triton_form import TritonSegments
    except ModuleNotFoundError:
        return None
    return TritonSegments()
