"""The texts of a predict call as ids, in a front; it judges no item and knows no task.

What is not found here, or not understood, the device process turns into ids itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic_core import from_json
from tokenizers import Tokenizer

# More of them are tokenised where they take turns with those of other calls.
MOST_TEXTS = 256
MOST_CHARS = 65_536
# So much is done sooner than a thread would have begun.
_SHORT_CHARS = 512

Ids = dict[str, list[int]]


def texts_of(body: bytes) -> list[str]:
    """Every different text of the inputs in a body, in order; none of a body that is odd or has too many."""
    try:
        asked = from_json(body)
    except ValueError:
        return []
    inputs = asked.get("inputs") if isinstance(asked, dict) else None
    texts = list(dict.fromkeys(_strings(inputs if isinstance(inputs, list) else [inputs])))
    return texts if len(texts) <= MOST_TEXTS and sum(map(len, texts)) <= MOST_CHARS else []


def _strings(items: list[Any]) -> Iterator[str]:
    for item in items:
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            choices = item.get("choices")
            own = [item.get("text"), item.get("text_pair"), *(choices if isinstance(choices, list) else ())]
            yield from (one for one in own if isinstance(one, str))


class Texts:
    """A tokenizer, and threads for what takes long. Ids have no special tokens and are not cut."""

    def __init__(self, tokenizer: str, num_threads: int) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="texts")

    async def ids_of(self, body: bytes) -> Ids:
        texts = texts_of(body)
        if sum(map(len, texts)) <= _SHORT_CHARS:
            return self._ids(texts)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._ids, texts)

    def _ids(self, texts: list[str]) -> Ids:
        if len(texts) == 1:  # the call that keeps the interpreter
            return {texts[0]: self._tokenizer.encode(texts[0], add_special_tokens=False).ids}
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return {text: one.ids for text, one in zip(texts, found, strict=True)}
