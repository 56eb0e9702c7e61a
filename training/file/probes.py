"""Which validation rows become probes: various labels, various lengths, not cut, not huge."""

from collections.abc import Hashable, Sequence

from adapters_store.manifest import Probe
from modeling import Encoded
from training.loop.encode import Rows
from training.rows.examples import Split
from training.rows.items import ChoiceItem, Item, parts_of
from training.tasks import Logits, Task

MIN_PROBES, MAX_PROBES = 8, 32
_MAX_TEXT_CHARACTERS = 2_000
_MAX_WORD_LOGITS = 2_000  # of one probe, for all of its words


def probes_of(split: Split, task: Task, encoded: Rows, logits: Logits) -> list[Probe]:
    """Probes out of the rows of a split, with the logits [N, L] that they were given.

    Of free text: the log probability [N, 1] of a right answer, which the probe names.
    """
    items = split.texts
    readable = [row for row in range(len(items)) if not task.reads_words or encoded.of(row)[0].words]
    strata, lengths, truncated = task.strata(split.targets), encoded.lengths, encoded.truncated
    chosen = choose_probes(
        [strata[row] for row in readable],
        [lengths[row] for row in readable],
        [truncated[row] for row in readable],
        [sum(map(len, parts_of(items[row]))) for row in readable],
    )
    rows = [readable[place] for place in chosen]
    if task.reads_words:
        return [_of_words(str(items[row]), encoded.of(row)[0], logits[row], len(task.labels)) for row in rows]
    strings = task.strings(split.targets) if task.writes else [None] * len(items)
    return [_probe(items[row], [float(value) for value in logits[row]], strings[row]) for row in rows]


def _of_words(text: str, encoded: Encoded, logits: Logits, num_labels: int) -> Probe:
    """The first words of a text, so many that a file stays small."""
    words = encoded.words[: max(1, _MAX_WORD_LOGITS // num_labels)]
    own = logits[: len(words) * num_labels].tolist()
    return Probe(text=text, words=[[word.start, word.end] for word in words], logits=own)


def _probe(item: Item, logits: Sequence[float], target: str | None) -> Probe:
    if isinstance(item, ChoiceItem):
        return Probe(text=item.text, choices=list(item.choices), logits=list(logits))
    text, pair = (item, None) if isinstance(item, str) else item
    return Probe(text=text, text_pair=pair, target=target, logits=list(logits))


def choose_probes(
    strata: Sequence[Hashable], lengths: Sequence[int], truncated: Sequence[bool], sizes: Sequence[int]
) -> list[int]:
    """Rows for 8 to 32 probes, ascending.

    `strata` are labels, `lengths` tokens, `sizes` characters. Labels take turns; within one, the shortest and
    the longest come first. Rows that were cut or are long are used only when there are not enough others.
    With fewer than 8 rows, rows repeat.
    """
    if not strata:
        raise ValueError("probes need at least one row: this is a bug")
    sound = [i for i in range(len(strata)) if not truncated[i] and sizes[i] <= _MAX_TEXT_CHARACTERS]
    rest = sorted(set(range(len(strata))) - set(sound), key=lambda i: sizes[i])
    chosen = _by_turns(sound, strata, lengths)[:MAX_PROBES]
    chosen += rest[: max(0, MIN_PROBES - len(chosen))]
    repeats = [chosen[i % len(chosen)] for i in range(MIN_PROBES - len(chosen))]
    return sorted(chosen + repeats)


def _by_turns(rows: Sequence[int], strata: Sequence[Hashable], lengths: Sequence[int]) -> list[int]:
    queues: dict[Hashable, list[int]] = {}
    for row in sorted(rows, key=lambda i: (lengths[i], i)):
        queues.setdefault(strata[row], []).append(row)
    taken: list[int] = []
    from_short = True
    while len(taken) < MAX_PROBES and queues:
        for stratum in list(queues):
            taken.append(queues[stratum].pop(0 if from_short else -1))
            if not queues[stratum]:
                del queues[stratum]
        from_short = not from_short
    return taken
