"""Which groups of rows are held out so that every label gives up its share: iterative stratification.

After Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data" (ECML PKDD 2011), algorithm
1, with two parts. It deviates so that a draw hardly changes when rows are added: labels take their turns by
all their rows, not by those still undecided; ties go by a hash of the text, not by chance; what is left of a
share below one row is rounded by a second number of that hash. And so that few rows are held out well: at the
end the total is put right, and with several labels a row, how many of them a row has.

Knows rows as numbers, texts only by their hash. Needs no torch and no numpy.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import NamedTuple

NO_LABEL = -1
"""What rows without a label count as, so that they are shared out as those of a label are.

Numbers below it stand for how many labels a row has: -1 - n for n.
"""

_ROW = 10**9
"""One row in units of a share: shares are whole numbers, so that equal ones are equal."""


class Group(NamedTuple):
    """The rows with one text; `place` orders groups, `chance` (0 to 1 row) rounds shares.

    `marks` are what is shared out: labels, and where some row has not just one, how many of them.
    """

    place: int
    chance: int
    rows: list[int]
    marks: tuple[int, ...]


class _Offer(NamedTuple):
    """The group that a label would take or give back next; the smallest offer is the most urgent."""

    urgency: int
    group: int
    label: int


def place_of(salt: str, text: Hashable) -> int:
    """128 bits of a hash: the same in every process, on every machine, in whatever row the text stands.

    A text is a str, a tuple of such, or a frozen dataclass of them. `ascii` writes each in one way only (lone
    surrogates as escapes, parts in quotes), where `hash` is salted and UTF-8 has no lone surrogates.
    """
    return int.from_bytes(blake2b(f"{salt} {text!a}".encode("ascii"), digest_size=16).digest(), "big")


def marks_of(labels: Iterable[int]) -> tuple[int, ...]:
    """The different labels of a row in order; NO_LABEL where there is none."""
    return tuple(sorted(set(labels))) or (NO_LABEL,)


def groups_of(texts: Sequence[Hashable], labels: Sequence[Sequence[int]], salt: str) -> list[Group]:
    """A group for each text, in the order of their places; it has the marks of all its rows."""
    rows_of: dict[Hashable, list[int]] = {}
    for row, text in enumerate(texts):
        rows_of.setdefault(text, []).append(row)
    marks = [marks_of(one) for one in labels]
    if any(len(one) != 1 for one in labels):
        marks = [tuple({NO_LABEL - len(set(one)), *some}) for one, some in zip(labels, marks, strict=True)]
    groups = []
    for text, rows in rows_of.items():
        place = place_of(salt, text)
        its = marks[rows[0]] if len(rows) == 1 else {mark for row in rows for mark in marks[row]}
        groups.append(Group(place, place % _ROW, rows, tuple(its)))
    return sorted(groups)  # by place


def members_of(groups: Sequence[Group]) -> dict[int, list[int]]:
    """The groups of each label by their numbers, in the order of `groups`."""
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        for label in group.marks:
            members.setdefault(label, []).append(number)
    return members


def hold_out(groups: Sequence[Group], fraction: float) -> list[Group]:
    """The groups held out; none where each is the last of a label of its own."""
    draw = _Draw(groups, fraction)
    free = [number for number in range(len(groups)) if draw.is_free(number)]
    if not free:
        return []
    draw.wanted = max(1, _rounded(sum(len(groups[number].rows) for number in free) * draw.part))
    draw.share_out()
    draw.settle(draw.next_taken, draw.take)
    draw.settle(draw.next_given_back, draw.give_back)
    if not draw.held:  # every group is too large for any share
        draw.take(min(free, key=lambda number: (len(groups[number].rows), number)))
    return [groups[number] for number in sorted(draw.held)]


class _Draw:
    """What is held out so far; of each label, what it has still to give and how many groups it has left.

    A group counts with all its rows for each of its labels. `ahead` is how far a label has looked for its
    next offer: what was passed over once never fits again.
    """

    def __init__(self, groups: Sequence[Group], fraction: float) -> None:
        self.groups = groups
        self.part = round(fraction * _ROW)
        self.members = members_of(groups)
        self.left = {label: len(numbers) for label, numbers in self.members.items()}
        self.need = {
            label: sum(len(groups[number].rows) for number in numbers) * self.part
            for label, numbers in self.members.items()
        }
        self.held: set[int] = set()
        self.wanted = self.num_held = 0
        self.ahead: dict[int, int] = {}

    def is_free(self, number: int) -> bool:
        """Whether a group can be held out: it is not, and is the last of none of its labels."""
        return number not in self.held and all(
            self.left[label] > 1 for label in self.groups[number].marks if label >= NO_LABEL
        )

    def take(self, number: int) -> None:
        self.held.add(number)
        self._count(number, 1)

    def give_back(self, number: int) -> None:
        self.held.remove(number)
        self._count(number, -1)

    def _count(self, number: int, sign: int) -> None:
        num_rows = sign * len(self.groups[number].rows)
        self.num_held += num_rows
        for label in self.groups[number].marks:
            self.left[label] -= sign
            self.need[label] -= num_rows * _ROW

    def share_out(self) -> None:
        """The rarest label first: it holds out its share of the groups that no rarer one has decided on."""
        decided: set[int] = set()
        labels = [mark for mark in self.members if mark >= NO_LABEL]
        for label in sorted(labels, key=lambda label: (len(self.members[label]), label)):
            members = self.members[label]
            self._hold_share(label, [number for number in members if number not in decided])
            decided.update(members)

    def _hold_share(self, label: int, numbers: Iterable[int]) -> None:
        """Whole rows of the share, then one more by chance; groups with too many rows are passed over."""
        for number in numbers:
            num_rows, need = len(self.groups[number].rows), self.need[label]
            if need >= num_rows * _ROW:
                if self.is_free(number):
                    self.take(number)
            elif num_rows == 1 and self.is_free(number):
                if need > self.groups[number].chance:
                    self.take(number)
                return

    def settle(self, offer: Callable[[int], _Offer | None], act: Callable[[int], None]) -> None:
        """Follow the offers of all labels, the most urgent first, until there are none."""
        self.ahead = dict.fromkeys(self.members, 0)
        waiting = [found for label in self.members if (found := offer(label)) is not None]
        heapify(waiting)
        while waiting:
            first = heappop(waiting)
            now = offer(first.label)
            if now == first:
                act(first.group)
                now = offer(first.label)
            if now is not None:
                heappush(waiting, now)

    def next_taken(self, label: int) -> _Offer | None:
        """While rows are missing: the next group of a label that has not given its share."""
        missing, need = self.wanted - self.num_held, self.need[label]
        if missing <= 0 or need <= 0:
            return None
        number = self._seek(
            label, 1, lambda number, num_rows: num_rows < 2 * missing and self.is_free(number)
        )
        if number is None:
            return None
        group = self.groups[number]
        return _Offer(group.chance - need // len(group.rows), number, label)

    def next_given_back(self, label: int) -> _Offer | None:
        """While there are rows too many: the last group of a label that has given more than its share."""
        surplus, need = self.num_held - self.wanted, self.need[label]
        if surplus <= 0 or need >= 0:
            return None
        number = self._seek(label, -1, lambda number, num_rows: num_rows <= surplus and number in self.held)
        return None if number is None else _Offer(need - self.groups[number].chance, number, label)

    def _seek(self, label: int, step: int, fits: Callable[[int, int], bool]) -> int | None:
        """The first group of a label (with step -1: the last) that `fits` by its number and its rows."""
        members = self.members[label]
        while self.ahead[label] < len(members):
            number = members[self.ahead[label] if step > 0 else -1 - self.ahead[label]]
            if fits(number, len(self.groups[number].rows)):
                return number
            self.ahead[label] += 1
        return None


def _rounded(share: int) -> int:
    return (share + _ROW // 2) // _ROW
