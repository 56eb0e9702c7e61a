"""`python -P -m proof FILE BACKBONE`: `check_file` for another process, which reads its report as JSON."""

import sys
from dataclasses import asdict
from pathlib import Path

from pydantic_core import to_json

from modeling import BackboneError, load_backbone
from proof.check import check_file
from proof.errors import Refused

try:
    found = asdict(check_file(Path(sys.argv[1]).read_bytes(), load_backbone(sys.argv[2])))
except (OSError, BackboneError) as error:
    sys.exit(str(error))
except Refused as refused:
    sys.exit("\n".join(map(str, refused.failures)))
sys.stdout.buffer.write(to_json(found))  # UTF-8, whatever the locale of the machine says
