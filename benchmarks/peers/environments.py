"""Builds an environment for each alternative that needs one of its own, in a folder.

    python -m benchmarks.peers.environments FOLDER [--only setfit|adapterhub|engines|infinity]

Then FOLDER/setfit/bin/python and FOLDER/adapterhub/bin/python run `benchmarks.peers` with the repository's
root in PYTHONPATH; `bare_backbone` and `http_peers` are told of FOLDER. An environment that is there
already is brought to the pinned versions.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

NAMES = ("setfit", "adapterhub", "engines", "infinity")


def requirements(name: str) -> Path:
    """The pinned versions of one environment."""
    return Path(__file__).parent / f"requirements-{name}.txt"


def build(name: str, folder: Path) -> Path:
    """The environment's python. Raises CalledProcessError where a package cannot be installed."""
    place = folder / name
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements(name)], check=True)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", choices=NAMES)
    args = parser.parse_args()
    for name in args.only or NAMES:
        print(build(name, args.folder.resolve()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
