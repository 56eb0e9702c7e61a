"""`python -m trunkline`, and what the `trunkline` command runs. The current folder has no part in it.

Python looks there first (`-m`, and an empty entry of PYTHONPATH): a person's own `modeling.py` or `queue.py`
would be imported in the place of ours or of a library's. So it is taken off the path before anything else is
imported; only where it is the folder that this very program was found in, a source checkout, it stays.
"""

import os
import sys


def leave_current_folder_out() -> None:
    """Takes it off what is searched before the standard library; `service.__main__` has the same."""
    library = os.path.dirname(os.__file__)
    num_before = sys.path.index(library) if library in sys.path else len(sys.path)
    ours = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    current = os.path.realpath(os.curdir)
    if current != ours:
        sys.path[:num_before] = [one for one in sys.path[:num_before] if os.path.realpath(one) != current]


def main() -> None:
    """What the console script runs."""
    try:
        leave_current_folder_out()
        from trunkline.cli import main as run

        run()
    except KeyboardInterrupt:  # before a command has begun
        sys.stderr.write("stopped\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
