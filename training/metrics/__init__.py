"""Metrics: numbers or texts in, numbers out."""
