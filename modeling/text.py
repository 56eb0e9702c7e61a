"""Texts to token ids: once per text, thread-safe, with our own truncation; it knows nothing of batches.

The library's tokenizer keeps truncation and padding as mutable state on one shared object, which is why
both are switched off here and done on the ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

from .errors import TextError
from .words import Word, words_of

# A text so short is done before another thread would have given the interpreter back.
SHORT_CHARS = 512

TextItem = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The ids of one text or of a pair, without special tokens and without a limit.

    `words` are those of a single text, where they were asked for.
    """

    first: list[int]
    second: list[int] | None
    words: tuple[Word, ...] = ()

    def apart(self) -> tuple[Tokens, ...]:
        """Each text for itself."""
        each = (self.first,) if self.second is None else (self.first, self.second)
        return tuple(Tokens(ids, None) for ids in each)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the backbone reads: ids and token types, special tokens included.

    `num_tokens` is the length before truncation, `truncated` whether something was cut. `target` is a string
    as ids, its end included, whose probability after this text is asked for, by a task without labels.
    `words` are what a task that labels words reads, without those that were cut.
    """

    ids: list[int]
    type_ids: list[int]
    num_tokens: int
    truncated: bool
    target: tuple[int, ...] = ()
    words: tuple[Word, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def parts(self) -> tuple[Encoded, ...]:
        """The sequences that the backbone reads: this one."""
        return (self,)


@dataclass(frozen=True, slots=True)
class EncodedApart:
    """The texts of one row, each a sequence of its own: encoded apart, and read together.

    Its length is that of all sequences, `num_tokens` that of the longest, as the limit is for each.
    """

    parts: tuple[Encoded, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def num_tokens(self) -> int:
        return max(part.num_tokens for part in self.parts)

    @property
    def truncated(self) -> bool:
        return any(part.truncated for part in self.parts)

    @property
    def target(self) -> tuple[int, ...]:
        """No string is scored after several texts."""
        return ()


EncodedRow = Encoded | EncodedApart
"""What the backbone reads for one row: a text or a pair as one sequence, or each text as its own."""


@dataclass(frozen=True, slots=True)
class _Template:
    """Special tokens around one text or a pair: (ids, types) in front, between and behind."""

    front: tuple[list[int], list[int]]
    between: tuple[list[int], list[int]]
    behind: tuple[list[int], list[int]]
    types: tuple[int, int]

    @property
    def num_special(self) -> int:
        return len(self.front[0]) + len(self.between[0]) + len(self.behind[0])


class TextEncoder:
    """A tokenizer without mutable state; one object may serve any number of threads.

    `max_tokens` is the backbone's limit, special tokens included.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.max_tokens = max_tokens
        self._single = _template(self._tokenizer, pair=False)
        self._pair = _template(self._tokenizer, pair=True)

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of everything that the ids of a text depend on."""
        return f"sha256:{hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()}"

    def tokenize(self, items: Sequence[TextItem], *, words: bool = False) -> list[Tokens]:
        """Texts to ids, and to `words` where they are asked for.

        The slow part: each different text once. It releases the GIL, but for one short text.
        """
        if words:
            return self._tokenize_words(items)
        texts = list(dict.fromkeys(t for item in items for t in ((item,) if isinstance(item, str) else item)))
        encodings = self._encodings(texts)
        ids = {text: encoding.ids for text, encoding in zip(texts, encodings, strict=True)}
        return [
            Tokens(ids[item], None) if isinstance(item, str) else Tokens(ids[item[0]], ids[item[1]])
            for item in items
        ]

    def _encodings(self, texts: list[str]) -> list[Encoding]:
        if len(texts) == 1 and len(texts[0]) <= SHORT_CHARS:
            return [self._tokenizer.encode(texts[0], add_special_tokens=False)]
        found: list[Encoding] = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return found

    def _tokenize_words(self, items: Sequence[TextItem]) -> list[Tokens]:
        """With the words of every single text."""
        texts = list(dict.fromkeys(item for item in items if isinstance(item, str)))
        found = self._tokenizer.encode_batch(texts, add_special_tokens=False)  # the fast one has no offsets
        marked = {
            text: Tokens(one.ids, None, words_of(text, [end for _, end in one.offsets]))
            for text, one in zip(texts, found, strict=True)
        }
        pairs = iter(self.tokenize([item for item in items if not isinstance(item, str)]))
        return [marked[item] if isinstance(item, str) else next(pairs) for item in items]

    def assemble(self, tokens: Tokens, max_tokens: int | None = None) -> Encoded:
        """Add special tokens; cut to `max_tokens` (the backbone's limit by default), the longer text first.

        Raises TextError if `max_tokens` leaves no room for text or is above the backbone's limit.
        """
        template = self._single if tokens.second is None else self._pair
        limit = self._limit(max_tokens, template)
        first, second = tokens.first, tokens.second or []
        num_tokens = len(first) + len(second) + template.num_special
        keep_first, keep_second = _longest_first(len(first), len(second), limit - template.num_special)
        first, second = first[:keep_first], second[:keep_second]
        (front, front_types), (between, between_types) = template.front, template.between
        behind, behind_types = template.behind
        a, b = template.types
        types = [*front_types, *[a] * len(first), *between_types, *[b] * len(second), *behind_types]
        ids = [*front, *first, *between, *second, *behind]
        words = tuple(
            word._replace(token=len(front) + word.token) for word in tokens.words if word.token < keep_first
        )
        return Encoded(ids, types, num_tokens, truncated=len(ids) < num_tokens, words=words)

    def encode(
        self, items: Sequence[TextItem], max_tokens: int | None = None, *, words: bool = False
    ) -> list[Encoded]:
        """`tokenize` and `assemble` in one call."""
        return [self.assemble(tokens, max_tokens) for tokens in self.tokenize(items, words=words)]

    def targets(self, strings: Sequence[str], end: int) -> list[list[int]]:
        """Strings as a decoder writes them: with the special tokens of the tokenizer (T5: the end alone,
        BART: a start as well), and the end of the sequence `end` in any case."""
        encodings = self._tokenizer.encode_batch_fast(list(strings), add_special_tokens=True)
        return [e.ids if e.ids[-1:] == [end] else [*e.ids, end] for e in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text, special tokens left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def _limit(self, max_tokens: int | None, template: _Template) -> int:
        limit = self.max_tokens if max_tokens is None else max_tokens
        if not template.num_special < limit <= self.max_tokens:
            raise TextError(
                f"max_tokens is {limit}; allowed: {template.num_special + 1} (one token beside the "
                f"special ones) to {self.max_tokens} (this backbone's positions)"
            )
        return limit


def _longest_first(num_first: int, num_second: int, room: int) -> tuple[int, int]:
    """How many ids of each text stay: the longer one is cut until both are equal, as in the library."""
    if num_first + num_second <= room:
        return num_first, num_second
    short, long = sorted((num_first, num_second))
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (long, short) if num_first > num_second else (short, long)


def _template(tokenizer: Tokenizer, *, pair: bool) -> _Template:
    """Read the special tokens off an encoding made by the tokenizer's own post-processor."""
    encoding = tokenizer.encode("a", "a" if pair else None, add_special_tokens=True)
    places, ids, types = encoding.sequence_ids, encoding.ids, encoding.type_ids
    first = [i for i, place in enumerate(places) if place == 0]
    second = [i for i, place in enumerate(places) if place == 1] or [len(ids)] * 2
    if not first:
        raise TextError("this tokenizer has no token for the text 'a': it cannot be used")
    end = second[-1] + 1 if pair else len(ids)
    spans = [(0, first[0]), (first[-1] + 1, second[0] if pair else len(ids)), (end, len(ids))]
    if not pair:  # everything after the only text stands behind it
        spans = [spans[0], (first[-1] + 1, first[-1] + 1), spans[1]]
    front, between, behind = ((ids[i:j], types[i:j]) for i, j in spans)
    return _Template(front, between, behind, (types[first[0]], types[second[0]] if pair else 0))
