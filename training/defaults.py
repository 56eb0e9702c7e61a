"""The hyper-parameters of a run whose configuration says nothing: one row per method, with its sources.

The papers leave most of these open, so the rows say where each set of numbers comes from. Nothing here is
read by `modeling`: a method knows its shape, this table knows how fast to train it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

_COMPACTER = "Compacter's official configuration for T5-base on GLUE"


@dataclass(frozen=True)
class Published:
    """What the Compacter paper trains a method with on T5-base: its AdamW rate, and prefixes or not.

    `variants` are rates of other values of an option, by (option, value). `task_prefix`: its code puts the
    task's name in front of the source of methods without adapters.
    """

    lr: float
    source: str = _COMPACTER
    task_prefix: bool = False
    variants: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def lr_for(self, method_config: Mapping[str, object]) -> float:
        """The rate of a method with these options."""
        found = [lr for (name, value), lr in self.variants.items() if method_config.get(name) == value]
        return found[0] if found else self.lr


@dataclass(frozen=True)
class MethodDefaults:
    """How one method is trained unless the user says otherwise.

    Rates are AdamW learning rates at the top of the schedule. `epochs` belongs to stage two (the adapter),
    `head_epochs` to stage one (the classifier on cached features); `min_steps` raises `epochs` on small data
    so that stage two is not over before the warm-up has done its work. `published` is the Compacter paper's
    own row: `--recipe compacter` and every text-to-text task use its rate; None = not in that paper.
    """

    lr: float
    source: str
    published: Published | None = None
    epochs: int = 5
    lr_head_stage2: float = 1e-3
    head_epochs: int = 40
    head_lr: float = 5e-3
    batch_size: int = 32
    batch_tokens: int = 4096
    min_steps: int = 100
    evaluate_steps: int = 0
    patience: int | None = None
    warmup: float = 0.06
    warmup_steps: int = 0
    weight_decay: float = 0.0
    head_weight_decay: float = 0.0
    pooling: str = "mean"
    max_tokens: int = 128
    method_config: Mapping[str, object] = field(default_factory=dict)


DEFAULTS: Mapping[str, MethodDefaults] = {
    "hadamard": MethodDefaults(
        lr=1e-2, source="benchmarks/quality.py on MiniLM, five data sets; the paper states no numbers"
    ),
    "bitfit": MethodDefaults(
        epochs=3,
        lr=5e-3,
        source="benchmarks/quality.py on MiniLM, five data sets; the authors have 1e-3 on BERT",
        published=Published(3e-4, task_prefix=True),
    ),
    "ia3": MethodDefaults(
        lr=1e-2,
        source="the row of hadamard; benchmarks/method_quality.py has 3e-2 ahead on TREC and SST-2, others "
        "not compared; the paper uses 3e-3 on T0",
    ),
    "ln_tuning": MethodDefaults(
        epochs=3,
        lr=5e-3,
        source="benchmarks/quality.py on MiniLM, five data sets; bitfit's rate, no other tried",
    ),
    "linear_probe": MethodDefaults(
        epochs=0,
        lr=0.0,
        lr_head_stage2=0.0,
        min_steps=0,
        source="stage one alone: convex, so only enough steps matter",
    ),
    "houlsby": MethodDefaults(
        lr=3e-3,
        source="benchmarks/method_quality.py on MiniLM: 3e-4, 3e-3 and 1e-2 compared; Houlsby et al. search "
        "3e-5 to 3e-3 on BERT",
        published=Published(3e-4),
    ),
    "pfeiffer": MethodDefaults(
        lr=3e-3, source="the row of houlsby, no other rate compared", published=Published(3e-4)
    ),
    "adapter_drop": MethodDefaults(
        lr=3e-3, source="the row of houlsby, no other rate compared", published=Published(3e-4)
    ),
    "low_rank_adapter": MethodDefaults(
        lr=1e-2, source="the row of compacter; ahead of 3e-2 on TREC", published=Published(3e-3)
    ),
    "phm": MethodDefaults(
        lr=1e-2, source="the row of compacter; ahead of 3e-2 on TREC", published=Published(3e-3)
    ),
    "compacter": MethodDefaults(
        lr=1e-2,
        source="benchmarks/method_quality.py on MiniLM: 3e-3, 1e-2 and 3e-2 compared",
        published=Published(3e-3),
    ),
    "compacter_pp": MethodDefaults(
        lr=1e-2,
        source="benchmarks/method_quality.py on MiniLM: 3e-3, 1e-2 and 3e-2 compared",
        published=Published(3e-3),
    ),
    "prompt_tuning": MethodDefaults(
        lr=3e-2,
        source="not measured here: the published rate",
        published=Published(3e-2, task_prefix=True, variants={("start", "vocabulary"): 3e-1}),
    ),
    "intrinsic_said": MethodDefaults(
        lr=3e-2,
        source="not measured here: the published rate, which was chosen with the official code's gradient "
        "(true / sqrt(L) per transform); ours is the true one",
        published=Published(3e-2, task_prefix=True),
    ),
    "lora": MethodDefaults(
        lr=3e-3,
        source="benchmarks/method_quality.py on MiniLM: 3e-4, 3e-3 and 1e-2 compared; Hu et al. use 5e-4 on "
        "RoBERTa",
    ),
    "full": MethodDefaults(
        epochs=3,
        lr=1e-4,
        weight_decay=0.01,
        min_steps=0,
        source="benchmarks/quality.py on MiniLM, five data sets; without dropout there",
        published=Published(3e-4, task_prefix=True),
    ),
}

OTHER_METHOD = MethodDefaults(lr=3e-3, source="a method without a row of its own: a common middle")


def defaults_for(method: str) -> MethodDefaults:
    """The row of `method`, or the common one for a method without a row (a new method needs no edit here)."""
    return DEFAULTS.get(method, OTHER_METHOD)
