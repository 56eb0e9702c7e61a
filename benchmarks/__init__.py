"""Measurements: one script per question; each prints ratios and writes `results/<name>.json`."""
