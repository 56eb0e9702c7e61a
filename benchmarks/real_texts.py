"""Texts as long as people write them: of six public data sets, mixed."""

import gzip
import json
import os
import random
from pathlib import Path

DATA = Path(os.environ.get("TRUNKLINE_SHARED_DATA") or "../shared/data")
SETS = ("trec", "sst2", "banking77", "ag_news_small", "mrpc", "goemotions")


def read(data: Path, rng: random.Random, count: int, max_words: int = 1000) -> list[str]:
    """`count` texts in a random order, as many of each set, none of more words. Raises FileNotFoundError
    without the sets."""
    found: list[str] = []
    for name in SETS:
        folder = data / name
        fields = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["text_fields"]
        with gzip.open(folder / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
            texts = [str(json.loads(line)[fields[0]]) for line in lines]
        texts = [text for text in texts if len(text.split()) <= max_words]
        found += rng.sample(texts, min(len(texts), -(-count // len(SETS))))
    rng.shuffle(found)
    return found[:count]
