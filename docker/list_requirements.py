"""Prints the requirements written in pyproject.toml, one a line, for an image layer of libraries alone.

    python list_requirements.py service training      the core ones and those of two extras
    python list_requirements.py --only demo           those of one extra, without the core

Knows the layout of pyproject.toml and nothing of what the libraries are for.
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Reads pyproject.toml from the current folder; an unknown extra ends it with a KeyError."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = [name for name in sys.argv[1:] if name != "--only"]
    names = [] if "--only" in sys.argv else list(project["dependencies"])
    for extra in extras:
        names += project["optional-dependencies"][extra]
    sys.stdout.write("\n".join(names) + "\n")


if __name__ == "__main__":
    main()
