"""Whether the two texts of a pair are read together or apart, where nobody said: what the head finds decides.

Both ways are tried on the frozen backbone. A head reads rows that it was not fitted on better one way than
the other, by the mean loss of a cross-validation, and that way is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modeling import Backbone
from modeling.readouts.apart import APART
from training.data.load import TaskData
from training.learning.material import prepare
from training.learning.seed import fitted_head
from training.loop.progress import Progress
from training.loop.stages import Features, Material, frozen_features
from training.settings.config import Hyper, TrainConfig


@dataclass(frozen=True)
class Read:
    """A way to read pairs: its numbers and material, what is told of these, and what its head reads."""

    hyper: Hyper
    material: Material
    notes: Sequence[str]
    features: Features | None = None


def way_to_read(
    config: TrainConfig, hyper: Hyper, data: TaskData, backbone: Backbone, virtual: int, progress: Progress
) -> Read:
    """As `hyper` says, unless the rows are pairs and nobody named a pooling. Raises ConfigError."""
    material, notes = prepare(config, hyper, data, backbone, virtual=virtual)
    together = Read(hyper, material, notes)
    if not _is_open(config, hyper, data, backbone):
        return together
    other = replace(hyper, pooling=APART)
    apart = Read(other, *prepare(config, other, data, backbone, virtual=virtual))
    tried = [_tried(read, data, config.seed, progress) for read in (together, apart)]
    losses = [loss for _, loss in tried]
    chosen = tried[losses.index(min(losses))][0]
    told = (
        f"pairs are read {'apart' if chosen.hyper.pooling == APART else 'together'}: a head on the frozen "
        f"backbone has a held-out loss of {losses[1]:.4f} apart and of {losses[0]:.4f} together (--pooling)"
    )
    return replace(chosen, notes=[*chosen.notes, told])


def _is_open(config: TrainConfig, hyper: Hyper, data: TaskData, backbone: Backbone) -> bool:
    is_pair = all(isinstance(item, tuple) for item in data.train.texts[:1])
    can = hyper.fit_head and config.recipe is None and APART in data.task.poolings(backbone)
    return config.pooling is None and is_pair and can


def _tried(read: Read, data: TaskData, seed: int, progress: Progress) -> tuple[Read, float]:
    features = frozen_features(read.material, progress)
    strata = data.task.strata(data.train.targets)
    fitted = fitted_head(read.material, features.train, strata, None, seed)
    loss = fitted.loss if fitted.held_out_loss is None else fitted.held_out_loss
    return replace(read, features=features), loss
