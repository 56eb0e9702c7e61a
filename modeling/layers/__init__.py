"""Layers: the maths of hypercomplex and low-rank projections and of the Fastfood transform.

Functions on tensors, and modules that hold their parameters with the papers' initial values; no sites, no
methods, no batches of adapters beyond a leading dimension b (1: the same parameters for every row).
"""
