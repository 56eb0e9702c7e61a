"""Banks: the parameters of all resident adapters, by tap, op and part, gathered per row of a batch.

A bank exists from the first adapter that needs it. Each part keeps rows of its own, so an adapter costs
memory only where it has parameters; row 0 is the identity. One thread uses a `Banks` object. R rows of a
batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .body import Body, Entry, Signature, Variant, entries_of, structure, tensors_of, variant_of
from .kernels import RowCall
from .layout import Layout, Subset, parted
from .ops import OPS, PackedTap
from .part import Part, Table
from .sites import Tap
from .tapped import Tapped, attach, frozen_module

_MAX_PLANS = 256  # mixtures of kinds of adapters that are remembered


@dataclass
class _Rows:
    """The slots of the batch that runs, in packed order: [R], or [1] when one slot has all rows."""

    slots: Tensor | None = None
    uniform: bool = True
    found: dict[Subset, Tensor] = field(default_factory=dict)
    kept: dict[tuple[int, int], tuple[Layout, Tensor]] = field(default_factory=dict)  # by ids: part, layout

    def of(self, subset: Subset, layout: Layout) -> Tensor:
        """The slots of some rows [r], made once per batch."""
        assert self.slots is not None
        if subset not in self.found:
            every = self.slots.expand(layout.num_rows) if self.uniform else self.slots
            self.found[subset] = every.index_select(0, subset.rows)
        return self.found[subset]

    def values(self, part: Part, layout: Layout) -> Tensor:
        """A vector part per token [T, D], per row of a padded grid [R, 1, D], or [1, D] for a whole batch."""
        if not layout.again:
            return self._values(part, layout)
        key = id(part), id(layout)
        if key not in self.kept:
            self.kept[key] = layout, self._values(part, layout)  # the layout, so that its id stays taken
        return self.kept[key][1]

    def _values(self, part: Part, layout: Layout) -> Tensor:
        assert self.slots is not None, "a bank acts outside a batch: this is a bug"
        found = part.gather(self.slots)
        if self.uniform:
            return found
        return found[:, None] if layout.padded else found.index_select(0, layout.row_of_token)


@dataclass(slots=True)
class Asked:
    """An op on some parts as a kernel's `call`, and where the parts were that it was `told` of."""

    call: RowCall | None = None
    told: list[tuple[Part, tuple[Tensor, Tensor]]] | None = None

    def of(self, variant: Variant, parts: Mapping[str, Part]) -> RowCall | None:
        """None where no kernel computes it. Made anew when a bank has moved parts."""
        if self.told is None or any(part.moved(*places) for part, places in self.told):
            self.told = [(part, (part.data, part.index)) for part in parts.values()]
            self.call = OPS[variant.op].rows(parts, variant.static)
        return self.call


@dataclass(slots=True)
class Place:
    """A variant at a tap, with the numbers of the signatures that have it.

    `asked` is what all mixtures of adapters share in which it has these parts.
    """

    tap: Tap
    variant: Variant
    parts: dict[str, Part] = field(default_factory=dict)
    who: frozenset[int] = frozenset()
    asked: Asked = field(default_factory=Asked)

    def as_call(self) -> RowCall | None:
        """What a kernel is asked for; None where none computes it."""
        return self.asked.of(self.variant, self.parts)


@dataclass(frozen=True, slots=True)
class Use:
    """What acts at a place in the batch that runs, and on which rows (None: all)."""

    place: Place
    rows: tuple[int, ...] | None = None


class TapBank:
    """All parts at one tap; acts on the module there with those that the current batch needs."""

    def __init__(self, tap: Tap, frozen: nn.Module, backbone: Backbone, rows: _Rows) -> None:
        self.tap, self.frozen = tap, frozen
        self.parts: dict[tuple[Variant, str], Part] = {}
        self._backbone, self._rows = backbone, rows
        self._uses: list[Use] = []

    @property
    def replaces(self) -> bool:
        """Whether an op of the current batch computes the output without the frozen module."""
        return any(OPS[use.place.variant.op].replaces for use in self._uses)

    @property
    def idle(self) -> bool:
        """Whether no row of the current batch has parts here."""
        return not self._uses

    @property
    def uses(self) -> Sequence[Use]:
        """What acts on the current batch, in this order."""
        return self._uses

    @property
    def only_adds(self) -> bool:
        """Whether what the current batch adds to the output depends on nothing but its rows."""
        return all(use.place.parts.keys() <= OPS[use.place.variant.op].adds for use in self._uses)

    def bind(self, uses: Sequence[Use]) -> None:
        """Choose what acts until the next call, in this order."""
        self._uses = list(uses)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """x [1, T, I], y [1, T, O] -> [1, T, O]; on a padded grid [R, L, ...]."""
        for use in self._uses:
            y = self.apply(use, x, y)
        return y

    def apply(self, use: Use, x: Tensor, y: Tensor) -> Tensor:
        """What one of `uses` makes of y."""
        batch = self._backbone.source if self.tap.reads_source else self._backbone.target
        assert batch is not None, "a bank acts outside a batch: this is a bug"
        op = OPS[use.place.variant.op]
        if op.per_row:
            return self._by_rows(use, batch.layout, x, y)
        parts = {name: self._rows.values(part, batch.layout) for name, part in use.place.parts.items()}
        return op.apply(self.frozen, parts, use.place.variant.static, x, y).to(y.dtype)

    def _by_rows(self, use: Use, layout: Layout, x: Tensor, y: Tensor) -> Tensor:
        """A matrix op: on the whole batch if it has one slot, else on grids of the rows that have it."""
        variant, slots = use.place.variant, self._rows.slots
        op = OPS[variant.op]
        assert slots is not None
        if self._rows.uniform and not op.by_place:
            whole = {name: part.gather(slots) for name, part in use.place.parts.items()}
            return op.apply(self.frozen, whole, variant.static, x, y).to(y.dtype)
        subset = layout.subset(use.rows)
        if not subset.groups:  # none of these rows has tokens here (a decoder pass for other rows)
            return y
        chosen = self._rows.of(subset, layout)
        parts = {name: part.gather(chosen) for name, part in use.place.parts.items()}
        if layout.padded:
            xs, ys = x.index_select(0, subset.rows), y.index_select(0, subset.rows)
            new = op.apply(self.frozen, parts, variant.static, xs, ys)
            return y.index_copy(0, subset.rows, new.to(y.dtype))
        new = self._on_grids(variant, parts, subset, x[0], y[0]).to(y.dtype)
        return (new if subset.tokens is None else y[0].index_copy(0, subset.tokens, new))[None]

    def _on_grids(
        self, variant: Variant, parts: Mapping[str, Tensor], subset: Subset, xs: Tensor, ys: Tensor
    ) -> Tensor:
        """The op on the tokens of a subset, grid by grid: xs [T, I], ys [T, O] -> [t, O]."""
        if subset.tokens is not None:
            xs, ys = xs.index_select(0, subset.tokens), ys.index_select(0, subset.tokens)
        apply, done = OPS[variant.op].apply, []
        groups = subset.groups
        for group, x, y in zip(groups, parted(xs, groups), parted(ys, groups), strict=True):
            own = {name: value[group.first : group.first + group.rows] for name, value in parts.items()}
            new = apply(self.frozen, own, variant.static, group.grid(x), group.grid(y))
            done.append(group.tokens(new))
        return done[0] if len(done) == 1 else torch.cat(done)


class Banks:
    """The banks of one backbone. Slot 0 is the identity: a row without an adapter is an ordinary row."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        paths = {tap.path.rpartition(".") for tap in backbone.taps}
        self._places = [(backbone.model.get_submodule(parent)._modules, name) for parent, _, name in paths]
        self._taps: dict[Tap, TapBank] = {}
        self._shared: dict[tuple[str, tuple[int, ...]], Part] = {}
        self._known: list[Signature] = []  # each kind of adapter seen so far; number n stands at n - 1
        self._numbers: dict[int, int] = {}  # by slot
        self._num_slots = 1
        self._plans: dict[frozenset[int], list[Place]] = {}
        self._found: dict[int, Mapping[tuple[Tap, Variant], Mapping[str, Part]]] = {}  # by number
        self._asked: dict[tuple[Tap, Variant, frozenset[str]], Asked] = {}
        self.acting: dict[Tap, TapBank] = {}  # where something acts on the batch that runs
        self._rows = _Rows()
        self._tables: list[Table] = []

    def write(self, slot: int, body: Mapping[Tap, PackedTap], shared: Mapping[str, Tensor]) -> None:
        """Put an adapter's parts into `slot`. What a write that fails has taken, `clear` gives back."""
        entries: list[Entry] = []
        values: dict[Part, Tensor] = {}
        fresh = Table(self._backbone.device)
        for tap, packed in body.items():
            variant = variant_of(packed, shared)
            entries += [Entry(tap, variant, name) for name in packed.parts]
            for name, value in packed.parts.items():
                if isinstance(value, Tensor):
                    values[self._part(tap, variant, name, value, fresh)] = value
        for name, value in shared.items():
            entries.append(Entry(None, Variant("shared", shapes=((name, tuple(value.shape)),)), name))
            values[self._shared_part(name, value, fresh)] = value
        tables = self._tables_of(values)
        self._cover(slot)
        self._numbers[slot] = self._number_of(frozenset(entries))
        for table in tables:
            table.write(slot, {part: values[part] for part in table.parts})

    def write_all(self, slots: Sequence[int], bodies: Sequence[Body]) -> None:
        """`write` of many adapters: all that are alike in everything but values go in together."""
        kinds: list[tuple[object, list[int]]] = []
        for number, body in enumerate(bodies):
            own = structure(*body)
            for known, numbers in kinds:
                if known == own:
                    numbers.append(number)
                    break
            else:
                kinds.append((own, [number]))
        for _, (first, *rest) in kinds:
            self.write(slots[first], *bodies[first])
            if rest:
                self._write_like(slots[first], [slots[i] for i in rest], [bodies[i] for i in rest])

    def _write_like(self, first: int, slots: Sequence[int], bodies: Sequence[Body]) -> None:
        """Adapters like the one in slot `first`, whose parts exist."""
        parts = [self._find(entry) for entry in entries_of(*bodies[0])]
        values = dict(zip(parts, zip(*map(tensors_of, bodies), strict=True), strict=True))
        self._cover(max(slots))
        for slot in slots:
            self._numbers[slot] = self._numbers[first]
        for table in dict.fromkeys(part.table for part in parts):
            table.write_all(slots, {part: values[part] for part in table.parts})

    def _cover(self, slot: int) -> None:
        """Have every table know the slots up to this one."""
        self._num_slots = max(self._num_slots, slot + 1)
        for table in self._tables:  # one that is new in a reused slot is asked for higher ones, too
            table.reserve(self._num_slots)

    def clear(self, slot: int) -> None:
        """Free everything that `slot` holds."""
        number = self._numbers.pop(slot, 0)
        for entry in self._known[number - 1] if number else ():
            if entry.tap is None:
                self._shared[entry.variant.shapes[0]].table.clear(slot)
            elif (entry.variant, entry.name) in self._taps[entry.tap].parts:
                self._taps[entry.tap].parts[entry.variant, entry.name].table.clear(slot)

    def _tables_of(self, parts: Iterable[Part]) -> list[Table]:
        """The tables that hold exactly these parts; one that holds others beside them is split."""
        own: dict[Table, list[Part]] = {}
        for part in parts:
            own.setdefault(part.table, []).append(part)
        found = [table if len(held) == len(table.parts) else table.split(held) for table, held in own.items()]
        self._tables += [table for table in found if table not in self._tables]
        return found

    def _number_of(self, signature: Signature) -> int:
        """Equal adapters have one number; there are few kinds, and as many adapters as one likes."""
        if signature not in self._known:
            self._known.append(signature)
        return self._known.index(signature) + 1

    @contextmanager
    def selected(self, slots: Sequence[int], order: Sequence[int]) -> Iterator[None]:
        """Let row i of the batch (in the caller's order) run under `slots[i]`; `order` is the packed one."""
        uniform = len(set(slots)) == 1
        packed = [slots[i] for i in order]
        needed = self._needed(packed)
        self._rows.slots = torch.tensor(packed[:1] if uniform else packed, device=self._backbone.device)
        self._rows.uniform = uniform
        try:
            for tap, uses in needed.items():
                self._taps[tap].bind(uses)
            self.acting = {tap: self._taps[tap] for tap in needed}
            yield
        finally:
            self.acting = {}
            for tap in needed:
                self._taps[tap].bind(())
            self._rows.slots = None
            self._rows.found.clear()
            self._rows.kept.clear()

    def _needed(self, packed: Sequence[int]) -> dict[Tap, list[Use]]:
        """What acts where on a batch whose packed rows hold these slots."""
        rows_of: dict[int, list[int]] = {}  # by number of the signature, 0 without an adapter
        for row, slot in enumerate(packed):
            rows_of.setdefault(self._numbers.get(slot, 0), []).append(row)
        chosen: dict[frozenset[int], tuple[int, ...] | None] = {frozenset(rows_of): None}
        needed: dict[Tap, list[Use]] = {}
        for place in self._plan(frozenset(rows_of) - {0}):
            rows = None
            if OPS[place.variant.op].per_row:
                if place.who not in chosen:
                    chosen[place.who] = tuple(sorted(row for number in place.who for row in rows_of[number]))
                rows = chosen[place.who]
            needed.setdefault(place.tap, []).append(Use(place, rows))
        return needed

    def _plan(self, numbers: frozenset[int]) -> list[Place]:
        """Every variant at every tap that adapters with these signatures need; kept for the next batch."""
        if numbers not in self._plans:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            places: dict[tuple[Tap, Variant], Place] = {}
            for number in numbers:
                for key, parts in self._parts_of(number).items():
                    place = places.setdefault(key, Place(*key))
                    place.parts |= parts
                    place.who |= {number}
            for key, place in places.items():
                place.asked = self._asked.setdefault((*key, frozenset(place.parts)), Asked())
            self._plans[numbers] = sorted(places.values(), key=lambda place: place.variant.order)
        return self._plans[numbers]

    def _parts_of(self, number: int) -> Mapping[tuple[Tap, Variant], Mapping[str, Part]]:
        """What adapters with a signature have at taps; parts stay, so it is found once."""
        if number not in self._found:
            own: dict[tuple[Tap, Variant], dict[str, Part]] = {}
            for entry in self._known[number - 1]:
                if entry.tap is not None:
                    own.setdefault((entry.tap, entry.variant), {})[entry.name] = self._find(entry)
            self._found[number] = own
        return self._found[number]

    def _find(self, entry: Entry) -> Part:
        if entry.tap is None:
            return self._shared[entry.variant.shapes[0]]
        for part, name in entry.variant.shared:
            if part == entry.name:
                return self._shared[name, dict(entry.variant.shapes)[part]]
        return self._taps[entry.tap].parts[entry.variant, entry.name]

    def _part(self, tap: Tap, variant: Variant, name: str, value: Tensor, fresh: Table) -> Part:
        if tap not in self._taps:
            frozen = frozen_module(self._backbone.model, tap.path)
            bank = TapBank(tap, frozen, self._backbone, self._rows)
            attach(self._backbone.model, tap, bank)
            self._taps[tap] = bank
        bank = self._taps[tap]
        if (variant, name) not in bank.parts:
            op = OPS[variant.op]
            identity = torch.zeros_like(value) if op.per_row else op.identity(tap, bank.frozen)[name]
            bank.parts[variant, name] = Part(identity, fresh)
        return bank.parts[variant, name]

    def _shared_part(self, name: str, value: Tensor, fresh: Table) -> Part:
        place = name, tuple(value.shape)
        if place not in self._shared:
            self._shared[place] = Part(torch.zeros_like(value), fresh)
        return self._shared[place]

    def _parts(self) -> Iterator[Part]:
        yield from self._shared.values()
        for bank in self._taps.values():
            yield from bank.parts.values()

    @property
    def slots(self) -> Tensor:
        """Of the rows of the batch that runs, in packed order [R], or [1] when one slot has all of them."""
        assert self._rows.slots is not None, "no batch runs: this is a bug"
        return self._rows.slots

    def act_alone(self) -> bool:
        """Whether nothing acts at the backbone's taps but these banks."""
        modules = (children[name] for children, name in self._places)
        acts = (act for module in modules if isinstance(module, Tapped) for act in module.acts)
        return all(act.idle or self._taps.get(tap) is act for tap, act, _ in acts)

    @property
    def nbytes(self) -> int:
        """Bytes on the device, spare rows included."""
        return sum(part.nbytes for part in self._parts()) + sum(one.index.nbytes for one in self._tables)
