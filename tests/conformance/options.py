"""Options of each method that fit the tiny backbones of the tests: width 32, two layers."""

from __future__ import annotations

from typing import Any

_SMALL: dict[str, Any] = {"bottleneck": 8}
_HYPERCOMPLEX: dict[str, Any] = {"bottleneck": 8, "division": 4}

TINY_OPTIONS: dict[str, dict[str, Any]] = {
    "houlsby": _SMALL,
    "pfeiffer": _SMALL,
    "adapter_drop": {"bottleneck": 8, "first_layer": 1},
    "low_rank_adapter": _SMALL,
    "phm": _HYPERCOMPLEX,
    "compacter": _HYPERCOMPLEX,
    "compacter_pp": _HYPERCOMPLEX,
    "lora": {"rank": 4},
    "prompt_tuning": {"tokens": 5},
    "intrinsic_said": {"dimension": 500},
}


def tiny_options(method: str) -> dict[str, Any]:
    """The configuration of `method` for a tiny backbone; the defaults where the table has none."""
    return dict(TINY_OPTIONS.get(method, {}))
