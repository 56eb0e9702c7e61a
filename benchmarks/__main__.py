"""Lists the benchmarks: `python -m benchmarks`, then `python -m benchmarks.NAME --help` for one of them."""

import ast
import sys
from pathlib import Path


def names() -> dict[str, str]:
    """Every script here that can be run, with the first sentence of what it says of itself."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        text = path.read_text()
        if 'if __name__ == "__main__":' in text and "\ndef main(" in text:
            found[path.stem] = (
                (ast.get_docstring(ast.parse(text)) or "").split("\n\n", 1)[0].replace("\n", " ")
            )
    return found


def main() -> int:
    print("make bench BENCH=NAME [ARGS=...] runs one; results go to benchmarks/results:\n")
    for name, about in names().items():
        print(f"  {name:18} {about}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
