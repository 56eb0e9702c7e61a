"""`python -m service serve` and `python -m service check FILE`; the same are commands of `trunkline`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .settings import Settings

_PROGRAM = "python -m service"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] == "serve":
        return _serve(given[1:])
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve over HTTP; every flag is also TRUNKLINE_<NAME>")
    check = commands.add_parser("check", help="do with a file what an upload does, and publish nothing")
    check.add_argument("file", type=Path)
    check.add_argument("--backbone", default="minilm")
    arguments = parser.parse_args(given)
    return _check(arguments.file, arguments.backbone)


def _serve(flags: Sequence[str]) -> int:
    try:
        settings = Settings(
            _cli_parse_args=list(flags), _cli_kebab_case=True, _cli_prog_name=f"{_PROGRAM} serve"
        )
    except ValidationError as error:
        for details in error.errors(include_url=False):
            where = ".".join(str(part) for part in details["loc"])
            sys.stderr.write(f"{where}: {details['msg']}, got {details['input']!r}\n")
        return 2
    from .server import serve

    return serve(settings)


def _check(path: Path, backbone_name: str) -> int:
    from modeling import BackboneError, load_backbone

    from .errors import RefusedAdapter
    from .residency.loader import check_file

    try:
        report: dict[str, Any] = asdict(check_file(path.read_bytes(), load_backbone(backbone_name)))
    except RefusedAdapter as refused:
        for problem in refused.problems:
            sys.stderr.write(
                f"{problem.field}: got {problem.got}; allowed: {problem.allowed}. {problem.remedy}\n"
            )
        return 1
    except (OSError, BackboneError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    from pydantic_core import to_json

    sys.stdout.write(to_json(report, indent=2).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
