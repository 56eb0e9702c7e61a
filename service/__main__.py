"""`python -m service serve`, without the `trunkline` command; every flag is also TRUNKLINE_<NAME>."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pydantic import ValidationError

from .settings import Settings

_PROGRAM = "python -m service serve"


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    if argv[:1] != ["serve"]:
        sys.stderr.write(f"usage: {_PROGRAM} [--help]\n")
        return 2
    try:
        settings = Settings(_cli_parse_args=list(argv[1:]), _cli_kebab_case=True, _cli_prog_name=_PROGRAM)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            where = ".".join(str(part) for part in details["loc"])
            sys.stderr.write(f"{where}: {details['msg']}, got {details['input']!r}\n")
        return 2
    from .server import serve

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
