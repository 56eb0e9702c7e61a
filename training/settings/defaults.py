"""The numbers of a run whose configuration says nothing: one row per method, where it differs from `Numbers`.

The papers leave most of these open, so each row says where its numbers come from. Nothing here is read by
`modeling`: a method knows its shape, this table knows how fast to train it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from training.settings.declared import Numbers


@dataclass(frozen=True)
class Published:
    """What the Compacter paper trains a method with on T5-base: its AdamW rate, and prefixes or not.

    From its official configuration for GLUE. `variants` are rates of other values of an option, by (option,
    value). `task_prefix`: its code puts the task's name in front of the source of methods without adapters.
    """

    lr: float
    task_prefix: bool = False
    variants: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def lr_for(self, method_config: Mapping[str, object]) -> float:
        """The rate of a method with these options."""
        found = [lr for (name, value), lr in self.variants.items() if method_config.get(name) == value]
        return found[0] if found else self.lr


@dataclass(frozen=True, kw_only=True)
class MethodDefaults(Numbers[None]):
    """How one method is trained unless the user says otherwise.

    `published` is the Compacter paper's own row: `--recipe compacter` and every text-to-text task use its
    rate; None = not in that paper.
    """

    published: Published | None = None


# The rates are those that `benchmarks/recipe.py` compared (docs/results.md, "The recipe"); where two were
# equal within their error, the lower one, which longer runs bear better. Beside each is what was compared.
DEFAULTS: Mapping[str, MethodDefaults] = {
    # 5e-3, 1e-2 and 2e-2; the paper states no numbers
    "hadamard": MethodDefaults(lr=1e-2),
    # 3e-3 and 1e-2; the authors have 1e-3 on BERT
    "bitfit": MethodDefaults(lr=3e-3, published=Published(3e-4, task_prefix=True)),
    # 1e-2 and 3e-2, the latter far ahead; the paper uses 3e-3 on T0
    "ia3": MethodDefaults(lr=3e-2),
    # 5e-3 and 1e-2
    "ln_tuning": MethodDefaults(lr=5e-3),
    # stage one alone: convex
    "linear_probe": MethodDefaults(epochs=0, lr=0.0, lr_head_stage2=0.0),
    # 1e-3 and 3e-3; Houlsby et al. search 3e-5 to 3e-3 on BERT
    "houlsby": MethodDefaults(lr=3e-3, published=Published(3e-4)),
    # 1e-3, 3e-3 and 1e-2
    "pfeiffer": MethodDefaults(lr=3e-3, published=Published(3e-4)),
    # 3e-3 and 1e-2
    "adapter_drop": MethodDefaults(lr=1e-2, published=Published(3e-4)),
    # 3e-3 and 1e-2
    "low_rank_adapter": MethodDefaults(lr=3e-3, published=Published(3e-3)),
    "phm": MethodDefaults(lr=1e-2, published=Published(3e-3)),
    "compacter": MethodDefaults(lr=1e-2, published=Published(3e-3)),
    "compacter_pp": MethodDefaults(lr=1e-2, published=Published(3e-3)),
    # earlier reduced runs at 3e-2 and 3e-1: the published rate
    "prompt_tuning": MethodDefaults(
        lr=3e-2, published=Published(3e-2, task_prefix=True, variants={("start", "vocabulary"): 3e-1})
    ),
    # earlier full-length runs at 3e-3 and 3e-2. The published rate was chosen with the official code's
    # gradient (true / sqrt(L) per transform); ours is the true one
    "intrinsic_said": MethodDefaults(lr=3e-3, published=Published(3e-2, task_prefix=True)),
    # 1e-3, 3e-3 and 1e-2, which loses CoLA; Hu et al. use 5e-4 on RoBERTa
    "lora": MethodDefaults(lr=3e-3),
    # 3e-5, 1e-4 and 3e-4; the decay is the head's
    "full": MethodDefaults(lr=1e-4, weight_decay=0.01, published=Published(3e-4, task_prefix=True)),
}


def defaults_for(method: str) -> MethodDefaults:
    """The row of `method`; empty for one without a row, which is trained with the settings' own numbers."""
    return DEFAULTS.get(method, MethodDefaults())
