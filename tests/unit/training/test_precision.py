"""Products of bfloat16 factors with float32 sums, forward and backward, and gone afterwards."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modeling import METHODS, Adapter, HeadSpec, Wanted, readout_of
from tests.conformance.options import tiny_options
from tests.tiny import random_texts, tiny_backbone
from training.loop import precision
from training.loop.precision import RoundedProducts, chosen, has_bfloat16_products, products_of

CPU = torch.device("cpu")
SPEC = HeadSpec("single_label", ("a", "b"))


@pytest.fixture(params=[True, False], ids=["in the kernel", "before it"], autouse=True)
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a processor with such products does (where this one has them), and what any other does."""
    if request.param and not has_bfloat16_products(CPU):
        pytest.skip("this processor has no bfloat16 products")
    monkeypatch.setattr(precision, "has_bfloat16_products", lambda device: request.param)


def run(model: Callable[[Tensor], Tensor], x: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor, ...]:
    y = model(x)
    return (y.detach(), *torch.autograd.grad(y.square().sum(), [x, *parameters]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_factors_are_rounded_and_sums_are_not(bias: bool, frozen: bool) -> None:
    linear = nn.Linear(96, 64, bias=bias)
    linear.weight.requires_grad_(not frozen)
    x = torch.randn(3, 7, 96, requires_grad=True)
    parameters = [p for p in linear.parameters() if p.requires_grad]
    with RoundedProducts(nn.Sequential(linear)).used():
        found = run(linear, x, parameters)
    low_x, low_weight = (t.detach().bfloat16().double() for t in (x, linear.weight))
    wanted = low_x @ low_weight.t() + (linear.bias.detach().double() if bias else 0)
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0].double(), wanted, rtol=1e-5, atol=1e-5)
    into = (2 * found[0]).bfloat16().double()
    torch.testing.assert_close(found[1].double(), into @ low_weight, rtol=1e-5, atol=1e-4)
    if not frozen:
        over_rows = into.flatten(0, 1).t() @ low_x.flatten(0, 1)
        torch.testing.assert_close(found[2].double(), over_rows, rtol=1e-5, atol=1e-4)
    if bias:
        torch.testing.assert_close(found[-1], (2 * found[0]).sum((0, 1)))


def test_a_weight_put_in_or_changed_in_place_is_seen() -> None:
    linear = nn.Linear(32, 32)
    model = nn.Sequential(linear).requires_grad_(False)
    x, products = torch.randn(20, 32), RoundedProducts(model)
    with products.used():
        before = model(x)
        linear.weight.mul_(2)
        torch.testing.assert_close(model(x) - linear.bias, 2 * (before - linear.bias))
        linear.weight = nn.Parameter(torch.zeros(32, 32))
        assert torch.equal(model(x), linear.bias.expand(20, 32))


def test_the_modules_and_the_process_are_as_before_also_after_an_error() -> None:
    backbone = tiny_backbone("bert")
    plain = precision._PRODUCTS.fp32_precision
    before = [dict(vars(module)) for module in backbone.model.modules()]
    with pytest.raises(RuntimeError), RoundedProducts(backbone.model).used():
        backbone.model.get_submodule("encoder.layer.0.output.dense")(torch.randn(2, 3))  # of another width
    assert [dict(vars(module)) for module in backbone.model.modules()] == before
    assert precision._PRODUCTS.fp32_precision == plain


@pytest.mark.parametrize("family", ["bert", "t5", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("method", ["hadamard", "compacter", "lora", "full", "intrinsic_said"])
def test_gradients_of_every_kind_of_method_are_near(family: str, method: str) -> None:
    backbone = tiny_backbone(family)
    spec = HeadSpec("single_label", ("a", "b"), pooling=backbone.poolings[0])
    adapter = Adapter.create(backbone, METHODS[method].from_config(tiny_options(method)), spec)
    assert adapter.head is not None
    texts = backbone.text.encode(random_texts(6, seed=1), 32)
    parameters = [*adapter.body_parameters(), *adapter.head.parameters()]
    found = []
    with adapter.attached(backbone):
        for products in (None, products_of("bfloat16", backbone.model, CPU)):
            batch, wanted = backbone.pack(texts), Wanted(torch.tensor([0, 1, 1, 0, 1, 0]))
            if products is None:
                loss = readout_of(spec).loss(backbone, batch, spec, adapter.head, wanted)
            else:
                with products.used():
                    loss = readout_of(spec).loss(backbone, batch, spec, adapter.head, wanted)
            grads = torch.autograd.grad(loss, parameters, allow_unused=True)
            found.append(torch.cat([g.flatten() for g in grads if g is not None]))
    exact, near = found
    assert not torch.equal(near, exact)
    assert (near - exact).norm() < 0.05 * exact.norm()


def test_auto_is_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for able in (True, False):
        monkeypatch.setattr(precision, "has_bfloat16_products", lambda device, able=able: able)
        assert chosen("auto", CPU) == ("bfloat16" if able else "float32")
    assert chosen("float32", CPU) == "float32"
    assert chosen("bfloat16", CPU) == "bfloat16"
    assert products_of("float32", nn.Linear(2, 2), CPU) is None
