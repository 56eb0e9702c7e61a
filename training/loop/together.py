"""Several learners in one pass: seeds, rates, methods or tasks, on the same texts or on others.

Every step takes the next batch of each learner; one forward and one backward pass serve them all. Everything
else is a learner's own: rows, optimiser, schedule, evaluation, stopping, journal. One that is over, or that
failed, leaves, and the others go on. Gradients are those of training alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modeling import Adapter, PackedBatch, SideBySide
from training.errors import TrainingFailedError
from training.loop.fit import Learner, StagePlan, StageResult, Steps, advanced, steps_of
from training.loop.journal import Journal, NoJournal
from training.loop.passes import packed_rows
from training.loop.precision import RoundedProducts
from training.loop.prefix import Below
from training.loop.progress import NullProgress, Progress
from training.loop.stages import Material

Outcome = StageResult | TrainingFailedError


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of several learners: `learner` is `adapter_learner`'s for this adapter, not attached by itself."""

    plan: StagePlan
    learner: Learner
    material: Material
    adapter: Adapter
    below: Below | None = None
    journal: Journal = field(default_factory=NoJournal)
    progress: Progress = field(default_factory=NullProgress)


def fit_together(members: Sequence[Member], products: RoundedProducts | None = None) -> list[Outcome]:
    """Train one stage of each; their parameters are left in their best states, as by `fit`.

    What fails of one learner is its outcome, not an error. Raises ValueError for an exclusive method, and if
    the members' backbones differ.
    """
    together = _Together(members, products)
    with together.side.attached():
        return together.run()


class _Together:
    def __init__(self, members: Sequence[Member], products: RoundedProducts | None) -> None:
        backbone = members[0].material.backbone
        if any(member.material.backbone is not backbone for member in members):
            raise ValueError("learners on different backbones cannot share a pass: this is a bug")
        self.members, self.products = members, products
        self.side = SideBySide(backbone, [member.adapter for member in members])
        self.begun = len({member.below and member.below.layer for member in members}) == 1
        self.steps: list[Steps] = [steps_of(m.plan, m.learner, m.progress, m.journal) for m in members]
        self.outcomes: dict[int, Outcome] = {}

    def run(self) -> list[Outcome]:
        """Until every learner is over."""
        wanted = self._advance(dict.fromkeys(range(len(self.members))))
        while wanted:
            wanted = self._advance(self._step(wanted))
        return [self.outcomes[number] for number in range(len(self.members))]

    def _advance(self, losses: Mapping[int, float | None]) -> dict[int, list[int]]:
        """Let each of these learners go on; the rows that it wants next, of those that are not over."""
        wanted = {}
        for number, loss in losses.items():
            with self.side.alone(number):
                found = self._advanced(number, loss)
            if isinstance(found, list):
                wanted[number] = found
            else:
                self.outcomes[number] = found
        return wanted

    def _advanced(self, number: int, loss: float | None) -> list[int] | Outcome:
        try:
            return advanced(self.steps[number], loss)
        except TrainingFailedError as error:
            return error

    def _step(self, wanted: Mapping[int, Sequence[int]]) -> dict[int, float]:
        """One pass over the rows of all: gradients in every learner, and its loss."""
        batches = {number: self._batch(number, rows) for number, rows in wanted.items()}
        losses: dict[int, Tensor] = {}
        with self._rounded(), self.side.running(batches) as hidden:
            for number, rows in wanted.items():
                with self.side.alone(number):
                    losses[number] = self._loss(number, rows, hidden[number], batches[number])
        total = torch.stack(list(losses.values()))
        total.sum().backward()  # type: ignore[no-untyped-call]  # torch's own
        return dict(zip(losses, total.tolist(), strict=True))

    def _batch(self, number: int, rows: Sequence[int]) -> PackedBatch:
        member = self.members[number]
        below = member.below.train if self.begun and member.below is not None else None
        material, virtual = member.material, member.adapter.virtual_tokens
        return packed_rows(material.backbone, material.train, rows, virtual, below)

    def _loss(self, number: int, rows: Sequence[int], hidden: Tensor, batch: PackedBatch) -> Tensor:
        member = self.members[number]
        material, head = member.material, member.adapter.head
        wanted = material.wanted.take(rows)
        return material.readout.loss_of(material.backbone, hidden, batch, material.spec, head, wanted)

    @contextmanager
    def _rounded(self) -> Iterator[None]:
        with nullcontext() if self.products is None else self.products.used():
            yield
