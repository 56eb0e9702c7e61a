"""`python -P -m proof FILE BACKBONE`: `check_file` for another process, which reads its report as JSON."""

import sys
from dataclasses import asdict
from pathlib import Path

from pydantic_core import to_json

from proof.check import report_or_reason

found = report_or_reason(Path(sys.argv[1]), sys.argv[2])
if isinstance(found, str):
    sys.exit(found)
sys.stdout.buffer.write(to_json(asdict(found)))  # UTF-8, whatever the locale of the machine says
