"""Which layers moved an answer: the answer of an adapter file with its parts switched off, and on alone.

Nothing is estimated: each number is an answer of the same head, with the frozen model where a part is off
(`modeling.switches`). Effects need not add up to the whole, since layers act on each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapters_store.manifest import Manifest
from modeling import Adapter, Backbone, HeadSpec, TextError, decoding, kind_of, load_backbone, readout_of
from modeling.attention_change import attention_taps, changes, sizes
from modeling.kinds.base import Floats, Kind
from modeling.switches import Switch, only, switches_of
from proof.candidate import spec_of
from training.errors import ConfigError, DataError
from training.file.evaluate import build_adapter, named_backbone, stored_file
from training.loop.device import pick_device
from training.loop.encode import Rows, encode_items
from training.loop.passes import trained
from training.report.result import plain
from training.rows.items import ChoiceItem, Item, parts_of


@dataclass(frozen=True)
class Standing:
    """An answer, and how it stands with the label that is explained: its margin and its probability.

    `label` is None for a number, which `score` is; of a text it is what was written. `unknown`: a server
    withholds the label, as the task abstains.
    """

    label: str | list[str] | None
    score: float
    margin: float
    probability: float | None
    unknown: bool = False


@dataclass(frozen=True)
class Effect:
    """One switch on one text: `off` is the answer without it, `alone` that with it and nothing else.

    `lost` is the margin that goes with it, `gained` what it adds to the frozen model's by itself; above 0 it
    speaks for the explained answer. `parameters` are its own, without those that all layers share.
    """

    name: str
    stack: str
    layer: int | None
    parameters: int
    off: Standing
    alone: Standing
    lost: float
    gained: float


@dataclass(frozen=True)
class AttentionHeads:
    """The attention heads of one layer, each a number: sizes of w - 1 and b, and |A' - A| / |A| on the text.

    `change` is None in a decoder, whose tokens are not the text's.
    """

    name: str
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    change: tuple[float, ...] | None


@dataclass(frozen=True)
class Explained:
    """One text: what is explained (None: the number), the answers with and without, and every effect."""

    text: Item
    tokens: int
    truncated: bool
    label: str | None
    whole: Standing
    without: Standing
    effects: tuple[Effect, ...]
    attention_heads: tuple[AttentionHeads, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the text as a server takes it: `text`, with `text_pair` or `choices`."""
        fields = {name: plain(value) for name, value in vars(self).items() if name != "text"}
        if isinstance(self.text, ChoiceItem):
            return {"text": self.text.text, "choices": list(self.text.choices), **fields}
        first, *second = parts_of(self.text)
        return {"text": first, **({"text_pair": second[0]} if second else {}), **fields}


@dataclass(frozen=True)
class Explanation:
    """Texts under one adapter file. `margin` says in words what the margins are."""

    task: str
    digest: str
    method: str
    kind: str
    margin: str
    texts: tuple[Explained, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {name: plain(value) for name, value in vars(self).items() if name != "texts"}
        return values | {"texts": [text.to_dict() for text in self.texts]}


def explain_file(
    path: Path,
    items: Sequence[Item],
    *,
    label: str | None = None,
    backbone: Backbone | None = None,
    backbone_name: str | None = None,
    device: str = "auto",
) -> Explanation:
    """Explain the answers of an adapter file to `items`, which have equally many choices, or none.

    Explained is each text's own answer, or `label` for all of them.

    Raises:
        DataError: the file is refused, a text has not the task's form, or the kind has no answer to weigh.
        ConfigError: a label that the task does not have; another backbone, or one that is not here.
    """
    stored = stored_file(path)
    manifest = stored.manifest
    kind = _kind(manifest)
    for item in items:
        _check_form(manifest, kind, item)
    if backbone is None:
        backbone = load_backbone(backbone_name or named_backbone(manifest), device=pick_device(device))
    adapter = build_adapter(stored, backbone)
    rows = _rows(backbone, adapter, manifest, items)
    return Explanation(
        task=manifest.task,
        digest=stored.digest,
        method=manifest.method.name,
        kind=kind.name,
        margin=str(kind.margin_word),
        texts=_explain(backbone, adapter, rows, items, label),
        notes=_notes(adapter),
    )


def _kind(manifest: Manifest) -> Kind:
    kind = kind_of(spec_of(manifest.head))
    if kind.margin_word is None:
        raise DataError(
            f"task {manifest.task} is a {kind.name}: it has no single answer that layers could be weighed "
            "by; give a file of labels, numbers or written texts"
        )
    return kind


def _check_form(manifest: Manifest, kind: Kind, item: Item) -> None:
    """Raises DataError for a text where a pair or choices are read, and the reverse; for half letters."""
    fields, task = manifest.input.fields, f"task {manifest.task}"
    if kind.choices != isinstance(item, ChoiceItem):
        wanted = "chooses: give --choice twice or more" if kind.choices else f"is a {kind.name}: no --choice"
        raise DataError(f"{task} {wanted}")
    if not kind.choices and isinstance(item, str) != (len(fields) == 1):
        one = f"reads one text ({fields[0]}): leave --text-pair out"
        raise DataError(f"{task} {one if len(fields) == 1 else _two(fields)}")
    for part in parts_of(item):
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the text {part[:40]!a} is not whole at character {error.start}: send it as UTF-8"
            ) from None


def _two(fields: Sequence[str]) -> str:
    return f"reads two texts ({', '.join(fields)}): give --text-pair for each --text"


def _rows(backbone: Backbone, adapter: Adapter, manifest: Manifest, items: Sequence[Item]) -> Rows:
    """As token ids; of a task that writes, each knows what it writes with the whole adapter."""
    try:
        rows = encode_items(
            backbone, items, manifest.input.max_tokens, adapter.virtual_tokens, readout_of(adapter.spec)
        )
    except TextError as error:
        raise DataError(f"task {manifest.task}: {error}") from error
    limit = adapter.spec.max_new_tokens
    if not readout_of(adapter.spec).writes or limit is None:
        return rows
    with adapter.attached(backbone):
        packed = backbone.pack(list(rows.encoded), adapter.virtual_tokens)
        written = decoding.generate(backbone, packed, limit)
    return rows.with_targets(backbone.label_ids(written))


def _explain(
    backbone: Backbone, adapter: Adapter, rows: Rows, items: Sequence[Item], label: str | None
) -> tuple[Explained, ...]:
    switches = switches_of(adapter)
    off = [[other for other in switches if other is not switch] for switch in switches]
    asked = [only(adapter, on) for on in ([], *off, *([switch] for switch in switches))]
    runs = [_run(backbone, one, rows) for one in (adapter, *asked)]
    heads = _attention_heads(backbone, adapter, rows)
    found = []
    for number, item in enumerate(items):
        asked_for = _Asked(adapter.spec, item, label, runs[0][0][number])
        standings = [asked_for.standing(logits[number], texts[number]) for logits, texts in runs]
        texts = rows.of(number)
        found.append(
            Explained(
                text=item,
                tokens=max(text.num_tokens for text in texts),
                truncated=any(text.truncated for text in texts),
                label=asked_for.label,
                whole=standings[0],
                without=standings[1],
                effects=_effects(switches, standings),
                attention_heads=heads[number],
            )
        )
    return tuple(found)


def _effects(switches: Sequence[Switch], standings: Sequence[Standing]) -> tuple[Effect, ...]:
    """From the answers with all on, with none, with each off in turn, with each alone."""
    whole, without, *rest = standings
    return tuple(
        Effect(
            name=switch.name,
            stack=switch.stack,
            layer=switch.layer,
            parameters=switch.parameters,
            off=off,
            alone=alone,
            lost=whole.margin - off.margin,
            gained=alone.margin - without.margin,
        )
        for switch, off, alone in zip(switches, rest[: len(switches)], rest[len(switches) :], strict=True)
    )


def _run(backbone: Backbone, adapter: Adapter, rows: Rows) -> tuple[Floats, Sequence[str | None]]:
    """Logits [B, L] of all rows, and what is written, where something is."""
    with adapter.attached(backbone):
        answered = trained(backbone, adapter, rows)
    return answered.logits.astype(np.float64), answered.texts or [None] * len(rows)


class _Asked:
    """What is explained of one text, and how logits [L] of it stand with that."""

    def __init__(self, spec: HeadSpec, item: Item, label: str | None, whole: Floats) -> None:
        self.spec, self.kind = spec, kind_of(spec)
        self.choices = item.choices if isinstance(item, ChoiceItem) else ()
        labels = self.choices or spec.labels
        weighed = len(labels) > 1 or self.kind.probability(spec, whole[None], 0) is not None
        named = labels if weighed else ()
        if label is not None and label not in named:
            allowed = f"allowed: {', '.join(named)}" if named else f"a {self.kind.name} has none to choose"
            raise ConfigError(f"--label is {label!r}; {allowed}")
        self.index = int(whole.argmax()) if label is None else list(named).index(label)
        self.label = named[self.index] if named else None

    def standing(self, logits: Floats, written: str | None) -> Standing:
        rows = logits[None]
        probability = self.kind.probability(self.spec, rows, self.index)
        margin = float(self.kind.margin(self.spec, rows, self.index)[0])
        share = None if probability is None else float(probability[0])
        if written is not None:
            return Standing(written, share or 0.0, margin, share)
        answer = self.kind.decide(replace(self.spec, abstain=None), rows, None, [self.choices])[0]
        withheld = answer.unless_unsure(self.spec).unknown
        return Standing(answer.label, answer.score, margin, share, withheld)


def _attention_heads(backbone: Backbone, adapter: Adapter, rows: Rows) -> list[tuple[AttentionHeads, ...]]:
    """Of each row, for an adapter on the heads of the self-attention; of choices, the mean over them."""
    if not attention_taps(adapter):
        return [()] * len(rows)
    names = {tap: switch.name for switch in switches_of(adapter) for tap in switch.taps}
    of_size, of_text = sizes(adapter, backbone), changes(adapter, backbone, list(rows.encoded))
    by_row = {tap: one.view(len(rows), rows.per_row, -1).mean(1) for tap, one in of_text.items()}
    return [
        tuple(
            AttentionHeads(
                names[tap],
                tuple(scale.tolist()),
                tuple(shift.tolist()),
                tuple(by_row[tap][row].tolist()) if tap in by_row else None,
            )
            for tap, (scale, shift) in of_size.items()
        )
        for row in range(len(rows))
    ]


def _notes(adapter: Adapter) -> tuple[str, ...]:
    """What cannot be told of this method."""
    name = adapter.method.name
    if adapter.body:
        return ()
    if adapter.weights is None:
        return (f"{name} has a head alone: no layer is changed, so there is none to explain",)
    return (
        f"{name} puts other weights in place of all the backbone's at once: it has no parts in single layers "
        "that could be switched off, so only the answers with and without it are told",
    )
