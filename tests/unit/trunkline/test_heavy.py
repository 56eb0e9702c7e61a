"""What only tells about itself answers without the libraries that train and serve."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "sklearn", "numpy")
PROGRAM = """
import sys
from trunkline.cli import app
try:
    app({arguments!r}, prog_name="trunkline")
except SystemExit as end:
    assert end.code == 0, end.code
print("loaded:", *(name for name in {heavy!r} if name in sys.modules))
"""


@pytest.mark.parametrize("command", ["train", "lab", "evaluate", "prune", "serve", "predict"])
def test_help_imports_nothing_heavy(command: str) -> None:
    program = PROGRAM.format(arguments=[command, "--help"], heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"
