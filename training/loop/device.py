"""Where a run computes."""

import torch


def pick_device(device: str) -> str:
    """`auto` -> cuda when there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
