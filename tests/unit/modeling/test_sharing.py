"""What rows of one text share: which, up to where, that it is computed once, and that no answer tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from modeling import FAMILIES, METHODS, Adapter, Backbone, Encoded, HeadSpec, ServedModel, Site
from modeling.sharing import Streams, distinct, lowest_layer, streams_of
from modeling.words import Word
from tests.conformance import checks
from tests.tiny import tiny_backbone

STACKS = [name for name in FAMILIES if tiny_backbone(name).layers]
SPEC = checks.SPECS[0]
TEXTS = ["w1 w2 w3", ("w4 w5", "w6"), "w7 w8 w9 w1 w2"]


def text(*ids: int, types: int = 0) -> Encoded:
    return Encoded([*ids], [types] * len(ids), len(ids), truncated=False)


def adapter(family: str, method: str, seed: int, spec: HeadSpec = SPEC, **options: Any) -> Adapter:
    """Every parameter moved from its start."""
    backbone = tiny_backbone(family)
    made = Adapter.create(backbone, METHODS[method].from_config(options), spec, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.body_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


@contextmanager
def tokens_of_layers(backbone: Backbone) -> Iterator[list[int]]:
    """How many tokens each layer computes within it."""
    seen = [0] * len(backbone.layers)

    def counting(number: int) -> Any:
        def count(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            seen[number] += next(iter((*args, *kwargs.values()))).shape[1]

        return count

    first = [
        next(layer.children()) for layer in backbone.layers
    ]  # of a layer that does nothing, none is called
    handles = [
        part.register_forward_pre_hook(counting(number), with_kwargs=True)
        for number, part in enumerate(first)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def assert_alone(served: ServedModel, family: str, rows: Sequence[tuple[Any, int, Adapter]]) -> None:
    """Rows (text, slot, adapter) of one batch: the logits of each are those of the text alone."""
    encoded = [checks.encode(served.backbone, [item])[0] for item, _, _ in rows]
    bodies = [served.placement(slot).body_slot for _, slot, _ in rows]
    reads = [(number, slot) for number, (_, slot, _) in enumerate(rows)]
    other = tiny_backbone(family)
    for one, logits, (_, _, own) in zip(encoded, served.run(encoded, bodies, reads), rows, strict=True):
        wanted = checks.logits_alone(other, own, one)
        torch.testing.assert_close(torch.from_numpy(logits), wanted, **checks.TOLERANCE)


def test_the_streams_that_spare_most_are_chosen() -> None:
    one, other = text(1, 2, 3), text(4, 5)
    twelve_spared = streams_of([one, one, one], [1, 4, 4], 6)  # below layer 1 it would be six
    assert twelve_spared == Streams(4, [0, 1], [0, 1, 1])
    assert streams_of([one, one, other], [3, 3, 0], 6) == Streams(3, [0, 2], [0, 0, 1])
    assert streams_of([one, other, one, other], [6, 6, 6, 6], 6) == Streams(6, [0, 1], [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("texts", "lowest", "num_layers"),
    [
        ([text(1, 2), text(1, 3)], [4, 4], 6),  # other texts
        ([text(1, 2), text(1, 2, types=1)], [4, 4], 6),  # other types of tokens
        ([text(1, 2), text(1, 2)], [0, 4], 6),  # an adapter on the first layer
        ([text(1, 2), text(1, 2)], [1, 1], 24),  # a twelfth of half is not worth it
        ([text(1, 2)], [4], 6),
        ([text(1, 2), text(1, 2)], [0, 0], 0),  # a family whose layers are no stack
    ],
)
def test_where_too_little_is_shared_every_row_runs_alone(
    texts: list[Encoded], lowest: list[int], num_layers: int
) -> None:
    assert streams_of(texts, lowest, num_layers) is None


def test_rows_that_nothing_tells_apart_are_one() -> None:
    named = Encoded([1, 2], [0, 0], 2, truncated=False, words=(Word(0, 0, 1),))
    aimed = Encoded([1, 2], [0, 0], 2, truncated=False, target=(7,))
    texts = [text(1, 2), text(1, 2), text(1, 2), named, aimed, text(1, 2), text(2, 1)]
    assert distinct(texts, [5, 6, 5, 5, 5, 6, 5]) == ([0, 1, 3, 4, 6], [0, 1, 0, 2, 3, 1, 4])


def test_the_lowest_layer_is_where_something_acts_first() -> None:
    taps = tiny_backbone("bart").taps
    encoder = [
        tap for tap in taps if tap.stack == "encoder" and tap.layer == 1 and tap.site is not Site.EMBED
    ]
    decoder = [tap for tap in taps if tap.stack != "encoder"]
    embeddings = [tap for tap in tiny_backbone("bert").taps if tap.site is Site.EMBED]
    assert lowest_layer(embeddings, 2) == 0
    assert lowest_layer(encoder, 2) == 1
    assert lowest_layer(decoder, 2) == 2
    assert lowest_layer([*decoder, *encoder], 2) == 1
    assert lowest_layer([], 2) == 2
    assert lowest_layer(encoder, 0) == 0


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("family", STACKS)
def test_tasks_on_the_last_layer_share_what_is_below_it(family: str, fast: bool) -> None:
    """And all rows answer as each alone, whatever the methods: vectors, matrices, a prompt, none."""
    served, last = ServedModel(tiny_backbone(family), fast=fast), len(tiny_backbone(family).layers) - 1
    adapters = [
        *(adapter(family, "hadamard", seed, layers=[last]) for seed in (1, 2, 3)),
        adapter(family, "lora", 4, layers=[last], rank=2, alpha=2),
        adapter(family, "linear_probe", 5),
    ]
    slots = [served.install(one.pack()) for one in adapters]
    rows = [(item, slot, own) for slot, own in zip(slots, adapters, strict=True) for item in TEXTS]
    with tokens_of_layers(served.backbone) as seen:
        assert_alone(served, family, rows)
    num_tokens = sum(len(one) for one in checks.encode(served.backbone, TEXTS))
    if not served.passes["fast"]:  # those layers are not the library's
        assert seen[0] == num_tokens
        assert seen[last] == 5 * num_tokens
    prompt = adapter(family, "prompt_tuning", 6, tokens=2)
    below = adapter(family, "hadamard", 7)
    more = [(item, served.install(own.pack()), own) for own in (prompt, below) for item in TEXTS]
    assert_alone(served, family, [*more[:3], *rows, *more[3:]])


def test_the_same_text_of_the_same_task_runs_once() -> None:
    """As when two requests of a batch ask it; each read has its answer."""
    served = ServedModel(tiny_backbone("bert"), fast=False)
    own = adapter("bert", "hadamard", 1)
    slot = served.install(own.pack())
    with tokens_of_layers(served.backbone) as seen:
        assert_alone(served, "bert", [(item, slot, own) for item in [*TEXTS, *TEXTS, TEXTS[0]]])
    assert seen[0] == seen[-1] == sum(len(one) for one in checks.encode(served.backbone, TEXTS))


def test_a_poisoned_task_harms_no_row_that_shares_its_text() -> None:
    served, last = ServedModel(tiny_backbone("bert")), len(tiny_backbone("bert").layers) - 1
    sound, broken = (adapter("bert", "hadamard", seed, layers=[last]) for seed in (1, 2))
    with torch.no_grad():
        for parameter in broken.body_parameters():
            parameter.fill_(torch.nan)
    encoded = checks.encode(served.backbone, TEXTS)
    slots = [served.install(one.pack()) for one in (sound, broken)]
    alike = [served.install(sound.pack()), *slots[:1]]

    def logits(own: list[int]) -> list[Any]:
        reads = [(number, slot) for number, slot in enumerate(own)]
        return served.run([encoded[number % 3] for number in range(len(own))], own, reads)

    found, wanted = logits([slots[0]] * 3 + [slots[1]] * 3), logits([alike[1]] * 3 + [alike[0]] * 3)
    for got, clean in zip(found[:3], wanted[:3], strict=True):
        assert got.tolist() == clean.tolist()
    assert all(torch.from_numpy(one).isnan().all() for one in found[3:])


def test_states_are_shared_too() -> None:
    """Whoever asks for them: `hidden` goes the same way as `run`."""
    served, last = ServedModel(tiny_backbone("bert")), len(tiny_backbone("bert").layers) - 1
    slots = [served.install(adapter("bert", "hadamard", seed, layers=[last]).pack()) for seed in (1, 2)]
    encoded = checks.encode(served.backbone, TEXTS)
    together = served.hidden(encoded * 2, [slots[0]] * 3 + [slots[1]] * 3)
    for number, states in enumerate(together):
        (alone,) = served.hidden([encoded[number % 3]], [slots[number // 3]])
        torch.testing.assert_close(states, alone, **checks.TOLERANCE)
