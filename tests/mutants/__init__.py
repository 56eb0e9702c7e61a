"""Mutations of the shipped code that its tests must notice: a maintained table, and what runs it."""
