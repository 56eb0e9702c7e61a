"""Trained parameters of every method, to the integer: the Compacter paper's T5 table, closed forms elsewhere.

The numbers are those that the official code counts on T5 with the tokenizer's 32,100 words; the shares are
the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from transformers import PreTrainedConfig

from modeling import METHODS, BackboneError, MethodError
from modeling.counts import MethodCount, architecture, count, empty_model, methods_table

TOTAL = {"t5-base": 222_882_048, "t5-small": 60_492_288}
# method, options, (trained parameters, share as the paper prints it) on T5-base and on T5-small
TABLE: list[tuple[str, dict[str, Any], tuple[int, str], tuple[int, str]]] = [
    ("full", {}, (222_882_048, "100"), (60_492_288, "100")),
    ("houlsby", {}, (1_855_104, "0.832"), (422_272, "0.698")),
    ("pfeiffer", {}, (951_360, "0.427"), (219_328, "0.363")),
    ("adapter_drop", {}, (1_101_984, "0.494"), (84_032, "0.139")),
    ("low_rank_adapter", {}, (161_664, "0.073"), (54_400, "0.090")),
    ("prompt_tuning", {}, (76_800, "0.034"), (51_200, "0.085")),
    ("intrinsic_said", {}, (20_000, "0.009"), (20_000, "0.033")),
    ("bitfit", {}, (280_932, "0.126"), (115_044, "0.190")),
    ("phm", {"division": 4}, (534_144, "0.24"), (130_432, "0.216")),
    ("phm", {"division": 8}, (355_968, "0.160"), (102_784, "0.170")),
    ("compacter", {"division": 4}, (161_728, "0.073"), (54_464, "0.090")),
    ("compacter", {"division": 8}, (162_176, "0.073"), (54_912, "0.091")),
    ("compacter_pp", {"division": 4}, (104_704, "0.047"), (35_456, "0.059")),
    ("compacter_pp", {"division": 8}, (105_152, "0.047"), (35_904, "0.059")),
]
# The third n of the tables: 12 divides T5-base's widths, 16 T5-small's.
THIRD: list[tuple[str, str, int, int, str]] = [
    ("phm", "t5-base", 12, 398_976, "0.179"),
    ("phm", "t5-small", 16, 250_240, "0.414"),
    ("compacter", "t5-base", 12, 163_392, "0.073"),
    ("compacter", "t5-small", 16, 58_496, "0.097"),
    ("compacter_pp", "t5-base", 12, 106_368, "0.048"),
    ("compacter_pp", "t5-small", 16, 39_488, "0.065"),
]
ROWS = [
    *((m, options, "t5-base", *base) for m, options, base, _ in TABLE),
    *((m, options, "t5-small", *small) for m, options, _, small in TABLE),
    *((m, {"division": n}, backbone, number, share) for m, backbone, n, number, share in THIRD),
]


@cache
def built(name: str) -> tuple[PreTrainedConfig, torch.nn.Module]:
    config = architecture(name)
    return config, empty_model(config)


def counted(method: str, options: dict[str, Any], backbone: str) -> MethodCount:
    return count(METHODS[method].from_config(options), *built(backbone))


@pytest.mark.parametrize(("method", "options", "backbone", "parameters", "share"), ROWS)
def test_the_papers_table(
    method: str, options: dict[str, Any], backbone: str, parameters: int, share: str
) -> None:
    got = counted(method, options, backbone)
    assert got.parameters == parameters
    assert got.backbone_parameters == TOTAL[backbone]
    places = len(share.partition(".")[2])
    # The paper cuts or rounds: 0.0345 is printed as 0.034, 0.2397 as 0.239 and as 0.24.
    assert abs(got.share_percent - float(share)) < 10**-places


@pytest.mark.parametrize(
    ("method", "options", "parameters"),
    [
        ("houlsby", {}, 26_507_904),
        ("compacter", {"division": 4}, 24_814_528),
        ("bitfit", {}, 24_933_732),
    ],
)
def test_with_the_output_layer_as_in_the_papers_table_7(
    method: str, options: dict[str, Any], parameters: int
) -> None:
    got = counted(method, options, "t5-base")
    # The output layer is a matrix; BitFit's bias of it is counted with the body.
    assert got.parameters + got.head_parameters == parameters
    trained = counted(method, options | {"train_output_layer": True}, "t5-base")
    assert (trained.parameters, trained.head_parameters) == (parameters, 0)


# Closed forms of the paper, per block: d width, r bottleneck, k rank, n division.
PER_BLOCK: dict[str, Callable[[int, int, int, int], int]] = {
    "houlsby": lambda d, r, n, k: 2 * d * r + d + r,
    "low_rank_adapter": lambda d, r, n, k: 2 * k * (d + r) + d + r,
    "phm": lambda d, r, n, k: 2 * n**3 + 2 * d * r // n + d + r,
    "compacter": lambda d, r, n, k: 2 * k * (d + r) + d + r,
}
ENCODERS = {"bert-base": (12, 768), "minilm": (6, 384), "bert-large": (24, 1024), "electra-base": (12, 768)}


@pytest.mark.parametrize("backbone", ENCODERS)
@pytest.mark.parametrize(("n", "k", "factor"), [(4, 1, 32), (2, 3, 16)])
def test_closed_forms_on_encoders(backbone: str, n: int, k: int, factor: int) -> None:
    layers, d = ENCODERS[backbone]
    r, norms = d // factor, 2 * layers * 2 * d  # both norms of a layer, gain and bias
    options: dict[str, dict[str, Any]] = {
        "houlsby": {},
        "low_rank_adapter": {"rank": k},
        "phm": {"division": n},
        "compacter": {"division": n, "rank": k},
    }
    for method, form in PER_BLOCK.items():
        config = options[method] | {"reduction_factor": factor}
        once = n**3 if method == "compacter" else 0
        want = 2 * layers * form(d, r, n, k) + once
        assert counted(method, config, backbone).parameters == want + norms, method
        assert counted(method, config | {"train_norms": False}, backbone).parameters == want, method
    lora = counted("lora", {"rank": k}, backbone).parameters
    assert lora == layers * 2 * 2 * d * k


def test_norms_of_their_own_count() -> None:
    plain = counted("houlsby", {}, "minilm").parameters
    both = counted("houlsby", {"pre_norm": True, "post_norm": True}, "minilm").parameters
    assert both == plain + 12 * 2 * 2 * 384


def test_shared_factors_leave_biases_to_a_block() -> None:
    d, r, n, k = 768, 24, 4, 1
    got = counted("compacter", {"share_factors": True, "train_norms": False}, "bert-base").parameters
    assert got == 24 * (d + r) + n**3 + 2 * k * (d + r)
    factors = {"share_factors": True, "factorised_rule": True, "train_norms": False}
    assert counted("compacter", factors, "bert-base").parameters == got - n**3 + 2 * n * n
    own = {"factorised_rule": True, "train_norms": False}
    assert counted("phm", own, "bert-base").parameters == 24 * (2 * 2 * n * n + 2 * d * r // n + d + r)


def test_layers_restrict_blocks_and_norms_but_adapter_drop_keeps_all_norms() -> None:
    d, r = 384, 12
    block, norm = 2 * d * r + d + r, 2 * d
    assert counted("houlsby", {"layers": "4-5"}, "minilm").parameters == 4 * block + 4 * norm
    assert counted("adapter_drop", {"first_layer": 4}, "minilm").parameters == 4 * block + 12 * norm


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("compacter", {"division": 8}, "width is 384 and the bottleneck 12.*these do: 1, 2, 3, 4, 6, 12"),
        ("phm", {"division": 16, "bottleneck": 24}, "divide 384 and 24"),
        ("compacter", {"share_factors": True, "division": 5}, "divide 384 and 12"),
        ("houlsby", {"reduction_factor": 1000}, "leaves no bottleneck"),
        ("adapter_drop", {"first_layer": 6}, "no layer is left for adapters; lower first_layer to 5"),
        ("lora", {"rank": 385}, "choose 384 or less"),
        ("prompt_tuning", {"tokens": 512}, "512 virtual tokens; this backbone has 512 positions: lower them"),
        ("intrinsic_said", {"dimension": 10**9}, "more than the 22713216 numbers that it is to move"),
        ("intrinsic_said", {"dimension": 5}, "this backbone has 1.. tensors, so it needs at least 1"),
    ],
)
def test_options_that_do_not_fit_a_backbone_name_what_would(
    method: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(MethodError, match=said):
        counted(method, options, "minilm")


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("houlsby", {"reduction_factor": 0}, "reduction_factor is 0"),
        ("houlsby", {"bottleneck": -1}, "bottleneck is -1"),
        ("houlsby", {"activation": "tanh"}, "allowed: gelu_new, gelu, relu, swish"),
        ("houlsby", {"layers": "upper"}, "layers 'upper'"),
        ("houlsby", {"layers": [0, 1, 0]}, "a layer is named twice"),
        ("houlsby", {"train_norms": 1}, "train_norms is 1; it must be true or false"),
        ("pfeiffer", {"placement": "both"}, "allowed: attention, feed_forward"),
        ("adapter_drop", {"first_layer": -1}, "first_layer is -1"),
        ("low_rank_adapter", {"rank": 1.5}, "rank is 1.5"),
        ("phm", {"division": True}, "division is True"),
        ("compacter", {"share_factors": "yes"}, "share_factors is 'yes'"),
        ("compacter_pp", {"rank": 0}, "rank is 0"),
        ("lora", {"rank": 0}, "rank is 0"),
        ("lora", {"alpha": 0}, "alpha is 0"),
        ("lora", {"alpha": "16"}, "alpha is '16'"),
    ],
)
def test_options_of_the_wrong_kind_are_refused(method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(MethodError, match=said):
        METHODS[method].from_config(options)


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("google-t5/t5-base", "t5-base"),
        ("bert-base-uncased", "bert-base"),
        ("answerdotai/ModernBERT-base", "modernbert-base"),
        ("microsoft/deberta-v3-base", "deberta-v3-base"),
    ],
)
def test_names_of_published_checkpoints_are_understood(published: str, ours: str) -> None:
    assert architecture(published).to_dict() == architecture(ours).to_dict()


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(BackboneError, match="did you mean 'bert-base-cased'"):
        architecture("bert-base-casd")
    with pytest.raises(BackboneError, match="did you mean 'deberta-base'"):
        architecture("deberta-v1-base")


def test_an_encoder_decoder_is_counted_in_either_form() -> None:
    """A head of two labels, or the output layer, which is tied to the embedding and stays frozen."""
    method = METHODS["compacter"].from_config({})
    for name in ("t5-small", "bart-base"):
        shape = architecture(name)
        model = empty_model(shape)
        layer: Any = model.get_submodule("lm_head").weight
        head, text = (count(method, shape, model, 2, form) for form in ("head", "text_to_text"))
        assert head.parameters == text.parameters > 0
        assert head.head_parameters == 2 * (int(shape.hidden_size) + 1)
        assert text.head_parameters == layer.numel()
        assert count(method, shape, model) == (text if name == "t5-small" else head)
    with pytest.raises(BackboneError, match="text to text needs an encoder-decoder"):
        methods_table("bert-base", form="text_to_text")
