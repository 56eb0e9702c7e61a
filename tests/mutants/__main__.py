"""`python -m tests.mutants`: every mutation of the table must make its tests fail."""

from __future__ import annotations

import argparse
import sys

from tests.mutants.run import run_table
from tests.mutants.table import MUTATIONS


def main() -> int:
    """Exit status 1 if a mutation survives or is stale."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", metavar="TEXT", help="mutations whose name contains TEXT")
    parser.add_argument("--list", action="store_true", help="print the table and run nothing")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutations at a time (2)")
    options = parser.parse_args()
    chosen = [one for one in MUTATIONS if not options.only or any(text in one.name for text in options.only)]
    if options.list:
        for one in chosen:
            print(f"{one.name}\n    {one.file}: {one.old!r} -> {one.new!r}\n    {' '.join(one.tests)}")
        return 0
    if not chosen:
        parser.error("no mutation has such a name; --list shows them")
    killed = run_table(chosen, max(1, options.jobs), lambda text: print(text, flush=True))
    return 0 if killed else 1


if __name__ == "__main__":
    sys.exit(main())
