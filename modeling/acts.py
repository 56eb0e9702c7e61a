"""What acts at the taps of a fast pass: the ops of the banks, each by its kernel where it has one.

T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .banks import Banks, TapBank, Use
from .kernels import Kernels, RowCall, Rows, Scales
from .part import Part, Table
from .sites import Tap


class Acts:
    """On the tokens of one layout, with the adapters that are selected for the batch that runs."""

    def __init__(self, c: Kernels, banks: Banks, at: Rows) -> None:
        self._c, self._acting, self._at, self._slots = c, banks.acting, at, banks.slots
        self._of_token: dict[Table, Tensor] = {}

    def bank(self, tap: Tap) -> TapBank | None:
        """What acts there, if anything does."""
        return self._acting.get(tap)

    def __call__(self, tap: Tap, x: Tensor, y: Tensor) -> Tensor:
        """On y, in place where kernels do it: x [T, I], y [T, O] -> [T, O]."""
        bank = self._acting.get(tap)
        return y if bank is None else self.by(bank, bank.uses, x, y)

    def by(self, bank: TapBank, uses: Sequence[Use], x: Tensor, y: Tensor) -> Tensor:
        """Some of what acts there."""
        if x is y and len(uses) > 1:
            x = x.clone()  # every op sees the module's own input
        for use in uses:
            call = call_of(use)
            if call is None:
                y = bank.apply(use, x[None], y[None])[0]
            else:
                call.act(self._c, self._at, use.rows, x, y)
        return y

    def rows_of(self, part: Part) -> Tensor:
        """Which row of a part each token has [T]."""
        if part.table not in self._of_token:
            rows, layout = part.table.rows(self._slots), self._at.layout
            self._of_token[part.table] = rows.expand(layout.num_rows)[layout.row_of_token]
        return self._of_token[part.table]

    def on(self, tap: Tap, x: Tensor, part: Tensor) -> None:
        """On columns of a wider tensor, `part` [T, O], in place."""
        if tap in self._acting:
            new = self(tap, x, part)
            if new is not part:
                part.copy_(new)

    def then(self, tap: Tap, x: Tensor, y: Tensor, activation: str) -> Tensor:
        """What acts on y [T, O], and an activation behind it."""
        bank = self._acting.get(tap)
        call = call_of(bank.uses[0]) if bank is not None and len(bank.uses) == 1 else None
        scales = call if isinstance(call, Scales) else None
        if scales is None:
            y = self(tap, x, y)
        self._c.scale(y, self._at, scales, activation)
        return y


def call_of(use: Use) -> RowCall | None:
    """An op as a call of a kernel; None where none computes it."""
    return use.place.as_call()
