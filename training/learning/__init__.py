"""One run from its material to what is kept: the stages of a seed, and the last fit on all rows."""
