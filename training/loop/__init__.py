"""The training loop, and what it runs on: rows as tokens, passes, learners, the journal."""
