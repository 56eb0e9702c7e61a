"""The hyper-parameters of a run whose configuration says nothing: one row per method, with its source.

The papers leave most of these open, so the rows say where each set of numbers comes from. Nothing here is
read by `modeling`: a method knows its shape, this table knows how fast to train it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MethodDefaults:
    """How one method is trained unless the user says otherwise.

    Rates are AdamW learning rates at the top of the schedule. `epochs` belongs to stage two (the adapter),
    `head_epochs` to stage one (the classifier on cached features); `min_steps` raises `epochs` on small data
    so that stage two is not over before the warm-up has done its work.
    """

    epochs: int
    lr: float
    lr_head_stage2: float
    head_epochs: int
    head_lr: float
    source: str
    batch_size: int = 32
    batch_tokens: int = 4096
    min_steps: int = 100
    patience: int | None = None
    warmup: float = 0.06
    weight_decay: float = 0.0
    head_weight_decay: float = 0.0
    pooling: str = "mean"
    max_tokens: int = 128
    method_config: Mapping[str, object] = field(default_factory=dict)


_HEAD_EPOCHS = 40
_HEAD_LR = 5e-3

DEFAULTS: Mapping[str, MethodDefaults] = {
    "hadamard": MethodDefaults(
        epochs=5,
        lr=1e-2,
        lr_head_stage2=1e-3,
        head_epochs=_HEAD_EPOCHS,
        head_lr=_HEAD_LR,
        source="benchmarks/quality.py on MiniLM, five data sets; the paper states no numbers",
    ),
    "bitfit": MethodDefaults(
        epochs=3,
        lr=5e-3,
        lr_head_stage2=1e-3,
        head_epochs=_HEAD_EPOCHS,
        head_lr=_HEAD_LR,
        source="benchmarks/quality.py on MiniLM, three of five data sets; the authors have 1e-3 on BERT",
    ),
    "ia3": MethodDefaults(
        epochs=5,
        lr=1e-2,
        lr_head_stage2=1e-3,
        head_epochs=_HEAD_EPOCHS,
        head_lr=_HEAD_LR,
        source="not measured: the row of hadamard, the nearest method; the paper uses 3e-3 on T0",
    ),
    "ln_tuning": MethodDefaults(
        epochs=3,
        lr=5e-3,
        lr_head_stage2=1e-3,
        head_epochs=_HEAD_EPOCHS,
        head_lr=_HEAD_LR,
        source="benchmarks/quality.py on MiniLM, three of five data sets; bitfit's rate, no other tried",
    ),
    "linear_probe": MethodDefaults(
        epochs=0,
        lr=0.0,
        lr_head_stage2=0.0,
        head_epochs=_HEAD_EPOCHS,
        head_lr=_HEAD_LR,
        min_steps=0,
        source="stage one alone: convex, so only enough steps matter",
    ),
    "full": MethodDefaults(
        epochs=3,
        lr=1e-4,
        lr_head_stage2=1e-3,
        head_epochs=_HEAD_EPOCHS,
        head_lr=_HEAD_LR,
        weight_decay=0.01,
        min_steps=0,
        source="benchmarks/quality.py on MiniLM, five data sets; without dropout there",
    ),
}

OTHER_METHOD = MethodDefaults(
    epochs=5,
    lr=3e-3,
    lr_head_stage2=1e-3,
    head_epochs=_HEAD_EPOCHS,
    head_lr=_HEAD_LR,
    source="a method without a row of its own: the rates of bitfit",
)


def defaults_for(method: str) -> MethodDefaults:
    """The row of `method`, or the common one for a method without a row (a new method needs no edit here)."""
    return DEFAULTS.get(method, OTHER_METHOD)
