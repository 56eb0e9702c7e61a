"""`python -m service serve`, without the `trunkline` command; every flag is also TRUNKLINE_<NAME>.

The current folder has no part in it, as in `trunkline.__main__`: it leaves the path before anything else is
imported.
"""

import os
import sys

_PROGRAM = "python -m service serve"


def leave_current_folder_out() -> None:
    """As in `trunkline.__main__`; written twice, because what both could import that folder could hold."""
    library = os.path.dirname(os.__file__)
    num_before = sys.path.index(library) if library in sys.path else len(sys.path)
    ours = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    current = os.path.realpath(os.curdir)
    if current != ours:
        sys.path[:num_before] = [one for one in sys.path[:num_before] if os.path.realpath(one) != current]


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    if argv[:1] != ["serve"]:
        sys.stderr.write(f"usage: {_PROGRAM} [--help]\n")
        return 2
    return _serve(argv[1:])


def _serve(flags: list[str]) -> int:
    from pydantic import ValidationError

    from .settings import Settings, remarks, sentences
    from .threads import settle_process

    settle_process()
    try:
        settings = Settings(_cli_parse_args=flags, _cli_kebab_case=True, _cli_prog_name=_PROGRAM)
    except ValidationError as error:
        given = [text[2:].partition("=")[0].replace("-", "_") for text in flags if text.startswith("--")]
        sys.stderr.writelines(f"{told}\n" for told in sentences(error, {name: name for name in given}))
        return 2
    from .server import serve

    sys.stderr.writelines(f"warning: {told}\n" for told in remarks(settings, os.environ))
    return serve(settings)


if __name__ == "__main__":
    leave_current_folder_out()
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):  # until the server has its own: nothing is lost yet
        signal.signal(number, lambda *_: os._exit(0))
    sys.exit(main(sys.argv[1:]))
