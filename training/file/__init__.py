"""An adapter file: written and announced, judged on rows of data, pruned."""
