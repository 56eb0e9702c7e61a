"""The most probable token by bounds against all logits, in float64 and as the backbone computes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modeling import METHODS, Adapter, HeadSpec, backbone, greatest
from modeling.greatest import Greatest
from tests.tiny import CONFIGS, hidden_of, random_backbone, random_texts

COUNT, WIDTH = 300, 40


def exact(states: Tensor, weight: Tensor, bias: Tensor | None, shift: Tensor | None) -> Tensor:
    """[R, V] in float64."""
    logits = states.double() @ weight.double().T
    for more in (bias, shift):
        logits = logits if more is None else logits + more.double()
    return logits


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("has_shift", [False, True])
@pytest.mark.parametrize("spread", [0.0, 1.0, 6.0])
def test_no_logit_is_above_its_bound(spread: float, *, has_shift: bool, has_bias: bool) -> None:
    """Of tokens that are alike or of very different lengths, one direction common to all of them."""
    generator = torch.Generator().manual_seed(int(spread))
    for offset in (0.0, 5.0):
        weight = torch.randn(COUNT, WIDTH, generator=generator) + offset
        weight *= torch.exp(spread * torch.randn(COUNT, 1, generator=generator))
        states = torch.randn(9, WIDTH, generator=generator) - offset
        bias = 10 * torch.randn(COUNT, generator=generator) if has_bias else None
        shift = 10 * torch.randn(9, COUNT, generator=generator) if has_shift else None
        found = Greatest(weight, bias)
        logits = exact(states, weight, bias, shift)
        added = None if shift is None else (torch.arange(9), shift)
        bounds = found._bounds(states, added).flatten(1)[:, :COUNT].double()
        rounded = (2.0**-23 if has_shift else 2.0**-7) * logits.abs()
        assert (bounds >= logits - rounded).all()
        assert torch.equal(found(states, added), logits.argmax(-1))  # type: ignore[arg-type]  # not None


def test_what_rounding_takes_is_given_back_wherever_it_was() -> None:
    """Of states alone, of weights alone, and of a bias that a large product all but takes away."""
    generator = torch.Generator().manual_seed(0)
    plain, states = (torch.randn(n, WIDTH, generator=generator) for n in (COUNT, 9))
    plain[:9], states[:] = plain[:9].abs(), plain[:9].abs() * 1.003  # nothing lost is made up for elsewhere
    none = torch.arange(9), torch.zeros(9, COUNT)
    for weight, x in ((plain.bfloat16().float(), states), (plain, states.bfloat16().float())):
        bounds = Greatest(weight, None)._bounds(x, none).flatten(1)[:, :COUNT]
        assert (bounds >= exact(x, weight, None, None)).all()
    large = torch.zeros(COUNT, WIDTH)
    large[:, 0] = 1000
    bias = torch.linspace(-1003, -997, COUNT)
    bounds = Greatest(large, bias)._bounds(torch.eye(WIDTH)[:1], None).flatten(1)[:, :COUNT]
    assert (bounds >= exact(torch.eye(WIDTH)[:1], large, bias, None) - 0.05).all()


def test_few_tokens_are_computed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds are near enough: with the vocabulary of a model, a handful for a state."""
    generator = torch.Generator().manual_seed(0)
    weight, states = (torch.randn(n, 256, generator=generator) for n in (20_000, 16))
    monkeypatch.setattr(greatest, "_MOST", 8)
    found = Greatest(weight, None)(states)
    assert found is not None
    assert torch.equal(found, exact(states, weight, None, None).argmax(-1))


def test_of_equal_tokens_the_first() -> None:
    weight = torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(0))
    states = weight[[7, 150, 299]] * 3
    weight[[40, 160, 5]] = weight[[7, 150, 299]]
    found = Greatest(weight, None)(states)
    assert found is not None
    assert found.tolist() == [7, 150, 5]


def test_too_many_candidates_and_numbers_that_are_none_are_left_to_all_logits() -> None:
    weight = torch.ones(70_000, 4)
    assert Greatest(weight, None)(torch.ones(2, 4)) is None
    weight = torch.randn(COUNT, WIDTH)
    for poison in (float("nan"), float("inf")):
        states = torch.randn(3, WIDTH)
        states[1, 5] = poison
        assert Greatest(weight, None)(states) is None


@pytest.fixture
def _pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with products in bfloat16."""
    monkeypatch.setattr(backbone, "pays", lambda weight: True)


@pytest.mark.usefixtures("_pays")
@pytest.mark.parametrize("name", ["t5", "bart"])
@pytest.mark.parametrize("method", [None, "bitfit", "lora"])
def test_a_backbone_finds_the_token_of_its_greatest_logit(name: str, method: str | None) -> None:
    model = random_backbone(CONFIGS[name])
    if name == "bart":
        model.model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[operator]
    texts = model.text.encode(random_texts(40, 3))
    adapter = Adapter.create(
        model, METHODS[method or "lora"].from_config({}), HeadSpec("text_to_text", ("w1",), "none"), seed=0
    )
    if method == "bitfit":
        with torch.no_grad():
            for parameter in adapter.body_parameters():
                parameter.normal_()
    with torch.no_grad():
        states = hidden_of(model, texts)
        plain = model.logits(states).argmax(-1)
        with adapter.attached(model):
            wanted = model.logits(states).argmax(-1)
            assert model._by_bounds(states) is not None
            assert torch.equal(model.most_probable(states), wanted)
    assert torch.equal(plain, wanted) == (method != "bitfit")  # of these, only it acts at the output layer


@pytest.mark.usefixtures("_pays")
def test_other_weights_have_bounds_of_their_own() -> None:
    """What an exclusive adapter puts in place is not what the bounds were made of."""
    model = random_backbone(CONFIGS["t5"])
    states = torch.randn(8, model.hidden_size)
    with torch.no_grad():
        model.most_probable(states)
        other = torch.randn_like(model.parameters.every["lm_head.weight"])
        batch = model.pack(model.text.encode(["w1"]))
        with model.weights_from(lambda: {"lm_head.weight": other}), model.running(batch):
            assert torch.equal(model.most_probable(states), (states @ other.T).argmax(-1))
        assert torch.equal(model.most_probable(states), model.logits(states).argmax(-1))
