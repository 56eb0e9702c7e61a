"""LoRA, (IA)3, LN-tuning and prompt tuning are PEFT's: same tensors, same states, same gradients.

Ours run as they always do, many texts packed into one batch; PEFT's model reads one text at a time. On T5 the
decoder's logits are compared as well, so cross-attention is covered. PEFT is a dependency of the tests alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from modeling import Adapter, Backbone, Encoded, HeadSpec, Tap
from tests.conformance import checks
from tests.tiny import random_texts, target_logits, tiny_backbone, tiny_model

pytestmark = [
    # PEFT asks the library for an attribute whose name is going out of use, and does not know norms by name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
]
FAMILIES = ["bert", "roberta", "t5"]
TEXTS = [text for text in random_texts(9, seed=6) if isinstance(text, str)]  # PEFT's prompts drop token types
TARGETS = ["w1 w2 w3", "w4", "w5 w6", "w7 w8", "w9"]
PROMPT = 5
_SPEC = HeadSpec("single_label", ("no", "yes"), pooling="mean")
_SEQ2SEQ_SPEC = HeadSpec("text_to_text", ("w1", "w2"), pooling="none")

# Where each method acts, as PEFT names modules: BERT and RoBERTa share their names, T5 has its own.
_QUERY_VALUE = {"t5": r".*\.(q|v)", "bert": r".*\.(query|value)"}
_INNER = {"t5": r".*\.wo", "bert": r".*layer\.\d+\.output\.dense"}
_KEY_VALUE = {"t5": r".*\.(k|v)", "bert": r".*\.(key|value)"}
_NORMS = {"t5": r".*\.layer_norm", "bert": r".*layer\.\d+\..*LayerNorm"}  # not the embeddings' norm

Pairs = list[tuple[nn.Parameter, nn.Parameter, Callable[[Tensor], Tensor]]]


@dataclass(frozen=True)
class Theirs:
    """How PEFT is asked for a method, and which of its parameters is which of ours.

    `twins(model, tap, module)` gives pairs (our parameter, theirs, ours -> their shape).
    """

    config: Callable[[str], peft.PeftConfig]
    twins: Callable[[Any, Tap, nn.Module], Pairs]


def lora_twins(model: Any, tap: Tap, module: nn.Module) -> Pairs:
    layer = model.base_model.model.get_submodule(tap.path)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return [
        (module.get_parameter("a"), a, lambda t: t.mT),
        (module.get_parameter("b"), b, lambda t: t.mT),
    ]


def ia3_twins(model: Any, tap: Tap, module: nn.Module) -> Pairs:
    scale = model.base_model.model.get_submodule(tap.path).ia3_l["default"]
    return [(module.get_parameter("scale"), scale, lambda t: t.view_as(scale))]


def norm_twins(model: Any, tap: Tap, module: nn.Module) -> Pairs:
    norm = model.base_model.model.get_submodule(tap.path).ln_tuning_layers["default"]
    own = dict(module.named_parameters())
    pairs: Pairs = [(own["gain"], norm.weight, lambda t: t)]
    return [*pairs, (own["bias"], norm.bias, lambda t: t)] if "bias" in own else pairs


def prompt_twins(model: Any, tap: Tap, module: nn.Module) -> Pairs:
    rows = model.prompt_encoder["default"].embedding.weight
    return [(module.get_parameter("prompt"), rows, lambda t: t)]


def prompt_config(family: str) -> peft.PeftConfig:
    kind = peft.TaskType.SEQ_2_SEQ_LM if family == "t5" else peft.TaskType.FEATURE_EXTRACTION
    return peft.PromptTuningConfig(
        task_type=kind, num_virtual_tokens=PROMPT, num_transformer_submodules=1, tokenizer_name_or_path=None
    )


def named(names: dict[str, str], family: str) -> str:
    return names.get(family, names["bert"])


THEIRS: dict[str, Theirs] = {
    "lora": Theirs(
        lambda f: peft.LoraConfig(r=4, lora_alpha=6, target_modules=named(_QUERY_VALUE, f)), lora_twins
    ),
    "ia3": Theirs(
        lambda f: peft.IA3Config(
            target_modules=f"{named(_KEY_VALUE, f)}|{named(_INNER, f)}", feedforward_modules=named(_INNER, f)
        ),
        ia3_twins,
    ),
    "ln_tuning": Theirs(lambda f: peft.LNTuningConfig(target_modules=named(_NORMS, f)), norm_twins),
    "prompt_tuning": Theirs(prompt_config, prompt_twins),
}
OURS: dict[str, dict[str, Any]] = {"lora": {"rank": 4, "alpha": 6}, "prompt_tuning": {"tokens": PROMPT}}


def our_states(backbone: Backbone, adapter: Adapter, encoded: list[Encoded]) -> list[Tensor]:
    """Encoder states of each text's own tokens; on T5 then the logits of each target."""
    batch = backbone.pack(encoded, adapter.virtual_tokens)
    with adapter.attached(backbone):
        with backbone.running(batch) as hidden:
            states, lengths = batch.text_only(hidden)
        rows = torch.split(states, lengths.tolist())
        found = [rows[i] for i in batch.inverse.tolist()]
        if backbone.is_encoder_decoder:
            targets = backbone.label_ids(TARGETS[: len(encoded)])
            found += target_logits(backbone, batch, targets)
    return found


def their_states(model: Any, backbone: Backbone, encoded: list[Encoded]) -> list[Tensor]:
    """The same from PEFT's model, text by text."""
    states, logits = [], []
    for e, target in zip(encoded, TARGETS, strict=False):
        ids = torch.tensor([e.ids])
        asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if backbone.is_encoder_decoder:
            labels = torch.tensor(backbone.label_ids([target]))
            output = model(**asked, labels=labels)
            states.append(output.encoder_last_hidden_state[0, -len(e) :])
            logits.append(output.logits[0])
        else:
            states.append(model(**asked).last_hidden_state[0, -len(e) :])
    return states + logits


def near(got: Tensor, want: Tensor, tolerance: float, what: str = "") -> None:
    assert got.shape == want.shape, what
    assert (got - want).abs().max() <= tolerance * max(1.0, want.abs().max().item()), what


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", THEIRS)
def test_states_and_gradients_are_pefts(family: str, method: str) -> None:
    backbone = tiny_backbone(family)
    spec = _SEQ2SEQ_SPEC if backbone.is_encoder_decoder else _SPEC
    adapter = checks.trained(backbone, method, spec, seed=2, config=OURS.get(method, {}))
    model: Any = peft.get_peft_model(tiny_model(family), THEIRS[method].config(family)).eval()
    for module in (backbone.model, model, *adapter.body.values()):
        module.double()  # the sums of packed and single texts round differently; here that does not show
    twins = [pair for tap, m in adapter.body.items() for pair in THEIRS[method].twins(model, tap, m)]
    with torch.no_grad():
        for ours, theirs, shaped in twins:
            theirs.copy_(shaped(ours))
    theirs_all = {p for p in model.parameters() if p.requires_grad}
    assert theirs_all == {theirs for _, theirs, _ in twins}, "PEFT trains something else"

    encoded = backbone.text.encode(TEXTS[: len(TARGETS)])
    got, want = our_states(backbone, adapter, encoded), their_states(model, backbone, encoded)
    for mine, other in zip(got, want, strict=True):
        near(mine, other, 1e-6)
    cotangents = [torch.randn(row.shape) for row in want]
    for rows in (got, want):
        torch.autograd.backward(rows, cotangents)
    for ours, theirs, shaped in twins:
        assert ours.grad is not None
        assert theirs.grad is not None
        near(shaped(ours.grad), theirs.grad, 1e-5, method)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_starts_as_pefts_does(family: str) -> None:
    """b at zero; a uniform within +-1/sqrt(in), the bound of PEFT's own draw."""
    backbone = tiny_backbone(family)
    adapter = checks.new(backbone, "lora", checks.specs(backbone)[0])
    model: Any = peft.get_peft_model(tiny_model(family), THEIRS["lora"].config(family))
    bound = 32**-0.5
    ours, theirs = [], []
    for tap, module in adapter.body.items():
        (a, their_a, _), (b, their_b, _) = lora_twins(model, tap, module)
        assert not b.any()
        assert not their_b.any()
        ours.append(a.detach().flatten())
        theirs.append(their_a.detach().flatten())
    for draw in (torch.cat(ours), torch.cat(theirs)):
        assert 0.95 * bound < draw.abs().max() <= bound
        assert draw.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
