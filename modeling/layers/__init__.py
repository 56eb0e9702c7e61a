"""Layers: the maths of hypercomplex and low-rank projections and the Fastfood transform.

Functions on tensors, and modules that hold their parameters with the papers' initial values; no sites, no
methods, no batches of adapters beyond a leading dimension b (1: the same parameters for every row).
"""

from .fastfood import Fastfood, fastfood, walsh_hadamard
from .phm import LPHM, PHM, LowRank, dense, kronecker_sum, lphm, phm, project
from .product import product

__all__ = [
    "LPHM",
    "PHM",
    "Fastfood",
    "LowRank",
    "dense",
    "fastfood",
    "kronecker_sum",
    "lphm",
    "phm",
    "product",
    "project",
    "walsh_hadamard",
]
