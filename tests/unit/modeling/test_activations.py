"""What a training step keeps for its backward pass: nothing that the method does not need."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modeling import METHODS, Adapter, Backbone, HeadSpec
from modeling.layers.relu import SignRelu
from modeling.ops.norm import Norm
from tests.tiny import pooled_states, random_texts, tiny_backbone


@contextmanager
def kept_storages() -> Iterator[dict[int, int]]:
    """Bytes of every storage that autograd keeps, by address; parameters included."""
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # an address must not be used again

    def note(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        alive.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        yield kept


def _kept_bytes(backbone: Backbone, method: str, options: dict[str, Any]) -> int:
    """Of one forward pass, without the parameters themselves."""
    pooling = backbone.poolings[0]
    made = METHODS[method].from_config(options)
    adapter = Adapter.create(backbone, made, HeadSpec("single_label", ("a", "b"), pooling=pooling))
    texts = backbone.text.encode(random_texts(16, 0), 32)
    own = {p.untyped_storage().data_ptr() for p in (*backbone.model.parameters(), *adapter.body_parameters())}
    with adapter.attached(backbone), kept_storages() as kept:
        pooled_states(backbone, backbone.pack(texts, adapter.virtual_tokens), pooling)
    return sum(size for address, size in kept.items() if address not in own)


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_no_graph_is_built_below_the_lowest_trained_parameter(family: str) -> None:
    backbone = tiny_backbone(family)
    upper = _kept_bytes(backbone, "hadamard", {"layers": [1]})
    both = _kept_bytes(backbone, "hadamard", {"layers": [0, 1]})
    assert upper < 0.7 * both


def test_adapter_drop_without_norms_leaves_the_layers_below_alone() -> None:
    """Its first layer in the encoder is 1, so layer 0 keeps nothing."""
    backbone = tiny_backbone("bert")
    options = {"bottleneck": 4, "train_norms": False}
    upper = _kept_bytes(backbone, "adapter_drop", options | {"first_layer": 1})
    assert upper < 0.6 * _kept_bytes(backbone, "adapter_drop", options | {"first_layer": 0})


def test_bitfit_keeps_no_input_of_a_frozen_projection() -> None:
    """Inputs that an operation beside the projection needs (attention's output, GELU's) are not counted."""
    backbone = tiny_backbone("bert")
    adapter = Adapter.create(
        backbone, METHODS["bitfit"].from_config({}), HeadSpec("single_label", ("a", "b"))
    )
    inputs: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Tensor]) -> None:
        inputs.append(args[0])

    for name, module in backbone.model.named_modules():
        if name.endswith(("self.query", "intermediate.dense", "layer.0.output.dense")):
            module.register_forward_pre_hook(note)
    texts = backbone.text.encode(random_texts(8, 0), 32)
    with adapter.attached(backbone), kept_storages() as kept:
        pooled_states(backbone, backbone.pack(texts), "mean")
    assert len(inputs) == 5
    assert not {x.untyped_storage().data_ptr() for x in inputs} & kept.keys()


def test_the_trained_root_mean_square_norm_keeps_its_input_alone() -> None:
    backbone = tiny_backbone("t5")
    norm = Norm(backbone.model.get_submodule("encoder.block.0.layer.0.layer_norm"))
    x = torch.randn(1, 50, 32, requires_grad=True)
    with kept_storages() as kept:
        y = norm(x, x)
    assert sum(kept.values()) == 4 * (50 * 32 + 50 + 32)  # x, one number a token, the gain
    frozen = deepcopy(backbone.model.get_submodule("encoder.block.0.layer.0.layer_norm"))
    frozen.requires_grad_(True)
    expected = frozen(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    weight = torch.randn_like(y)
    got = torch.autograd.grad((y * weight).sum(), (x, norm.gain))
    want = torch.autograd.grad((expected * weight).sum(), (x, frozen.weight))  # type: ignore[arg-type]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_the_relu_keeps_a_byte_a_number_while_the_layer_behind_is_frozen() -> None:
    behind = nn.Linear(32, 4).requires_grad_(False)
    relu, x = SignRelu(behind), torch.randn(50, 32, requires_grad=True)
    with kept_storages() as kept:
        y = relu(x)
    assert sum(kept.values()) == 50 * 32
    (got,) = torch.autograd.grad(y.square().sum(), x)
    (want,) = torch.autograd.grad(torch.relu(x).square().sum(), x)
    assert torch.equal(got, want)


def test_a_trained_layer_behind_the_relu_shares_its_output() -> None:
    behind = nn.Linear(32, 4)
    x = torch.randn(50, 32, requires_grad=True)
    with kept_storages() as kept:
        behind(SignRelu(behind)(x))
    assert sum(kept.values()) - behind.weight.untyped_storage().nbytes() == 4 * 50 * 32
