"""Rows of a file, and what a model is asked about one of them; no labels, no tokens."""
