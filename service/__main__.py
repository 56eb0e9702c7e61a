"""`python -m service serve`, without the `trunkline` command; every flag is also TRUNKLINE_<NAME>."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from .settings import Settings, remarks, sentences

_PROGRAM = "python -m service serve"


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    if argv[:1] != ["serve"]:
        sys.stderr.write(f"usage: {_PROGRAM} [--help]\n")
        return 2
    try:
        settings = Settings(_cli_parse_args=list(argv[1:]), _cli_kebab_case=True, _cli_prog_name=_PROGRAM)
    except ValidationError as error:
        flags = [text[2:].partition("=")[0].replace("-", "_") for text in argv if text.startswith("--")]
        sys.stderr.writelines(f"{told}\n" for told in sentences(error, {name: name for name in flags}))
        return 2
    from .server import serve

    sys.stderr.writelines(f"warning: {told}\n" for told in remarks(settings, os.environ))
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
