"""`explain`: which layers of an adapter file moved an answer, by switching each of them off and on alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from trunkline.cli.boundary import guarded
from trunkline.cli.evaluate import BackboneName, Device
from trunkline.cli.options import AdapterPath, AsJson
from trunkline.cli.printing import note, print_facts, print_json, print_line, print_table, shorten
from trunkline.cli.streams import is_unicode

if TYPE_CHECKING:
    from training.file.explain import Effect, Explained, Standing
    from training.rows.items import Item

BAR = 12  # characters of the longest bar


def register(app: typer.Typer) -> None:
    app.command("explain", rich_help_panel="Look at methods and files")(explain)


@guarded
def explain(
    file: AdapterPath,
    text: Annotated[
        list[str],
        typer.Option(
            "--text", metavar="TEXT", help="A text to answer; repeat for several. Text to text: the source."
        ),
    ],
    text_pair: Annotated[
        list[str] | None,
        typer.Option(
            "--text-pair", metavar="TEXT", help="Second text, for tasks on pairs: one for each --text."
        ),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="For tasks that choose: what each text may go on with."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Explain this label, not the one that is answered.")
    ] = None,
    heads: Annotated[
        bool,
        typer.Option("--heads", help="Hadamard: show every attention head of every layer, too."),
    ] = False,
    backbone: BackboneName = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show which layers of an adapter moved an answer: each switched off, and each switched on alone.

    Example: trunkline explain intent.safetensors --text "where is my parcel" --heads

    First the answer with the adapter and without it (the frozen model under the same head). Then a line for
    each layer. OFF takes that layer alone back to the frozen model: how much of the margin goes with it.
    ALONE puts that layer alone on the frozen model: how much it adds by itself. The margin is how far the
    answer is from turning over: a label's logit over the best other one's (several labels: over its
    threshold); a number: the number itself; a written text: its log probability.

    A bar of █ is a layer that speaks for the answer, one of ▒ a layer that speaks against it; the longest bar
    of a column is its largest effect. Effects need not add up to the whole, because layers act on each other:
    the last line tells the rest. "turns to" names the answer that comes out instead when that layer is off.

    Per attention head (--heads, and always with --json): how far the scale is from 1 and the shift from 0
    (root mean square over the head's columns), and how far that head's output moved on this text, relative
    to its size.
    """
    from training.file.explain import explain_file

    found = explain_file(
        file, _items(text, text_pair or [], choice or []), label=label, backbone_name=backbone, device=device
    )
    for sentence in found.notes:
        note(sentence)
    if as_json:
        print_json(found.to_dict())
        return
    print_facts([("task", f"{found.task} ({found.method}, {found.kind})"), ("margin", found.margin)])
    for one in found.texts:
        _print(one)
        if heads:
            _print_heads(one)


def _items(texts: Sequence[str], pairs: Sequence[str], choices: Sequence[str]) -> list[Item]:
    from training.rows.items import MIN_CHOICES, ChoiceItem

    if pairs and len(pairs) != len(texts):
        raise typer.BadParameter(
            f"{len(texts)} --text and {len(pairs)} --text-pair: give one for each --text"
        )
    if pairs and choices:
        raise typer.BadParameter("--text-pair and --choice: a task reads one of the two")
    if choices and (len(choices) < MIN_CHOICES or len(set(choices)) < len(choices)):
        raise typer.BadParameter(f"--choice: give {MIN_CHOICES} different ones or more")
    if choices:
        return [ChoiceItem(text, tuple(choices)) for text in texts]
    return list(zip(texts, pairs, strict=True)) if pairs else list(texts)


def _print(one: Explained) -> None:
    print_line("")
    print_facts(
        [
            ("text", f"{_shown(one.text)}{' (cut)' if one.truncated else ''}"),
            ("with the adapter", _told(one.whole)),
            ("without it", _told(one.without)),
            *([("explained", one.label)] if one.label is not None else []),
        ]
    )
    if not one.effects:
        return
    lost, gained = ([getattr(effect, name) for effect in one.effects] for name in ("lost", "gained"))
    rows = [
        (e.name, f"{e.lost:+.4f}", off, f"{e.gained:+.4f}", alone, _turns(e, one.whole))
        for e, off, alone in zip(one.effects, _bars(lost), _bars(gained), strict=True)
    ]
    total = one.whole.margin - one.without.margin
    rows += [("all of them", f"{total:+.4f}", " ", f"{total:+.4f}", " ", " ")]
    rest = (total - sum(lost), total - sum(gained))
    rows += [("together, beyond each", f"{rest[0]:+.4f}", " ", f"{rest[1]:+.4f}", " ", " ")]
    print_table(["part", "off: margin lost>", "", "alone: margin gained>", "", "turns to"], rows)


def _told(standing: Standing) -> str:
    """`label (0.93), margin +2.1`, or the number."""
    if standing.probability is None:
        return f"{standing.score:.4f}"
    answer = standing.label if isinstance(standing.label, str) else ", ".join(standing.label or ["none"])
    explained = f"explained: {standing.probability:.4f}, margin {standing.margin:+.4f}"
    withheld = ", withheld" if standing.unknown else ""
    return f"{answer} ({standing.score:.4f}{withheld}); {explained}"


def _turns(effect: Effect, whole: Standing) -> str:
    """The answer with the switch off, where it is another one."""
    label = effect.off.label
    if label is None or label == whole.label:
        return " "
    return shorten(label if isinstance(label, str) else ", ".join(label) or "none")


def _bars(values: Sequence[float]) -> list[str]:
    """One for each value, as long as its share of the largest."""
    plus, minus = "█▒" if is_unicode(sys.stdout) else "#-"
    most = max(map(abs, values)) or 1.0
    return [(plus if value > 0 else minus) * round(BAR * abs(value) / most) for value in values]


def _print_heads(one: Explained) -> None:
    tables: list[tuple[str, str, float]] = [
        ("change of the attention output on this text, %", "change", 100),
        ("scale, root mean square of w - 1", "scale", 1),
        ("shift, root mean square of b", "shift", 1),
    ]
    if not one.attention_heads:
        note("no attention heads to show: this adapter does not act on them before they are projected")
        return
    for title, name, factor in tables:
        values = [(layer.name, getattr(layer, name)) for layer in one.attention_heads]
        rows = [(layer, *_cells(found, factor)) for layer, found in values if found is not None]
        columns = ["head", *(f"{head}>" for head in range(len(one.attention_heads[0].scale)))]
        print_line(title)
        print_table(columns, rows)


def _cells(values: Iterable[float], factor: float) -> list[str]:
    return [f"{factor * value:.3g}" for value in values]


def _shown(item: Item) -> str:
    from training.rows.items import parts_of

    parts = parts_of(item)
    return " | ".join(shorten(part, 60 if len(parts) == 1 else 40) for part in parts)
