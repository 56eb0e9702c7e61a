"""`transformers`' own pipeline of one classifier behind a minimal server.

python -m benchmarks.peers.serve_pipeline MODEL_FOLDER PORT NUM_TASKS
"""

import sys
from typing import Any

from benchmarks.peers.serving import locked, serve


def main() -> int:
    from transformers import pipeline

    folder, port = sys.argv[1], int(sys.argv[2])
    model = pipeline("text-classification", model=folder, device="cpu")

    def answer(task: str, text: str) -> Any:
        return model(text, truncation=True, max_length=128)[0]

    serve(locked(answer), port)  # the library's tokenizers are for one thread at a time
    return 0


if __name__ == "__main__":
    sys.exit(main())
