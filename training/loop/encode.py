"""Items of a split as token ids: made once per run, and laid out in batches for passes without gradients."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modeling import READOUTS, Backbone, Encoded, EncodedApart, EncodedRow, Readout, readout_of
from training.errors import ConfigError
from training.loop.batches import evaluation_batches
from training.rows.examples import Split
from training.rows.items import Item, texts_of
from training.tasks import Task

EVALUATION_TOKENS = 8192
_CHUNK_TEXTS = 2048


@dataclass(frozen=True)
class Rows:
    """Token ids of one split, in its order: `per_row` sequences to a row, `per_read` of them one reading.

    A row has K sequences for its K choices, or one; twice as many where the texts of a pair are encoded
    apart.
    """

    encoded: tuple[Encoded, ...]
    per_row: int = 1
    per_read: int = 1

    def __len__(self) -> int:
        return len(self.encoded) // self.per_row

    @property
    def lengths(self) -> list[int]:
        """Tokens per row, after truncation."""
        return [sum(map(len, self.of(row))) for row in range(len(self))]

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(map(len, self.encoded), default=0)

    @property
    def longest_target(self) -> int:
        """Tokens of the longest string that a text scores."""
        return max((len(text.target) for text in self.encoded), default=0)

    @property
    def num_truncated(self) -> int:
        return sum(self.truncated)

    @property
    def truncated(self) -> list[bool]:
        """Which rows lost tokens."""
        return [any(text.truncated for text in self.of(row)) for row in range(len(self))]

    def of(self, row: int) -> tuple[Encoded, ...]:
        return self.encoded[row * self.per_row : (row + 1) * self.per_row]

    def take(self, rows: Sequence[int]) -> list[Encoded]:
        """The texts of some rows, in the order asked for."""
        return [text for row in rows for text in self.of(row)]

    def together(self, texts: Sequence[Encoded]) -> list[EncodedRow]:
        """Texts of whole rows as a served model is asked for them."""
        if self.per_read == 1:
            return list(texts)
        starts = range(0, len(texts), self.per_read)
        return [EncodedApart(tuple(texts[start : start + self.per_read])) for start in starts]

    def numbers(self, rows: Sequence[int]) -> list[int]:
        """The numbers of their texts among all, in the order of `take`."""
        return [row * self.per_row + place for row in rows for place in range(self.per_row)]

    def with_targets(self, targets: Sequence[Sequence[int]]) -> "Rows":
        """The same rows of one text each, which know the string (as ids, with its end) that they score."""
        pairs = zip(self.encoded, targets, strict=True)
        return Rows(tuple(replace(text, target=tuple(ids)) for text, ids in pairs))


def encode_items(
    backbone: Backbone,
    items: Sequence[Item],
    max_tokens: int,
    virtual: int = 0,
    readout: Readout | None = None,
) -> Rows:
    """Tokenise as the `readout` reads and cut to `max_tokens`. Items of one split have equally many texts.

    Raises:
        ConfigError: the backbone has not enough positions for `max_tokens` and the `virtual` tokens, or the
            readout reads pairs and the items are none.
    """
    readout = readout or READOUTS["pooled"]
    if max_tokens + virtual > backbone.max_tokens or max_tokens < 1:
        taken = f", of which the method takes {virtual}" if virtual else ""
        room = backbone.max_tokens - virtual
        raise ConfigError(
            f"max_tokens is {max_tokens}; {backbone.name} has positions for {backbone.max_tokens}{taken}: "
            f"lower it{f' to at most {room}' if room > 0 else ''}"
        )
    texts = [text for item in items for text in texts_of(item)]
    if readout.pairs and any(isinstance(text, str) for text in texts):
        raise ConfigError(
            f"pooling is {readout.name!r}, which reads the two texts of a pair; the rows have one text: "
            "choose another --pooling, or name both fields (--text-fields)"
        )
    encoded: list[EncodedRow] = []
    for start in range(0, len(texts), _CHUNK_TEXTS):
        encoded += readout.encode(backbone.text, texts[start : start + _CHUNK_TEXTS], max_tokens)
    parts = tuple(part for row in encoded for part in row.parts)
    return Rows(parts, len(parts) // max(1, len(items)), len(parts) // max(1, len(texts)))


def encode_split(
    backbone: Backbone, split: Split, task: Task, max_tokens: int, virtual: int, pooling: str
) -> Rows:
    """`encode_items` as the task with this pooling reads; rows that are written know a right string."""
    rows = encode_items(backbone, split.texts, max_tokens, virtual, readout_of(task.spec(pooling)))
    return rows.with_targets(backbone.label_ids(task.strings(split.targets))) if task.writes else rows


def state_batches(rows: Rows, extra: int = 0) -> list[list[int]]:
    """Batches of rows for a pass without gradients; each text costs `extra` tokens more than its own."""
    costs = [length + extra * rows.per_row for length in rows.lengths]
    return evaluation_batches(costs, EVALUATION_TOKENS)
