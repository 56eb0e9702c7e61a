"""An option of BitFit and of methods with blocks: the output layer of an encoder-decoder is trained as well.

Karimi Mahabadi et al., "Compacter", NeurIPS 2021, arXiv 2106.04647, Table 7. T5 v1.0 and BART tie that
layer to the embedding, which moves with it. A matrix over the vocabulary has no per-row form, so a task
with this option runs in batches of its own, the rest of its adapter included, and its file is as large as
that matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import MethodError
from ..weights import Named
from .exclusive import Weights

OUTPUT_LAYER = "lm_head.weight"


class OutputLayer(Weights):
    """The weight [V, H] of the output layer, by the name of the parameter that it is tied to, if any."""

    def __init__(self, model: Named) -> None:
        super().__init__()
        layer = dict(model.named_parameters(remove_duplicate=False))[OUTPUT_LAYER]
        self._name = next(name for name, parameter in model.named_parameters() if parameter is layer)
        self.weight = nn.Parameter(layer.detach().clone())

    def forward(self) -> Mapping[str, Tensor]:
        return {self._name: self.weight}

    def file_tensors(self) -> Mapping[str, Tensor]:
        return {self._name.lower(): self.weight}


def output_layer_of(method: str, model: Named) -> OutputLayer:
    """The output layer. Raises MethodError on a backbone without one."""
    if OUTPUT_LAYER not in dict(model.named_parameters(remove_duplicate=False)):
        raise MethodError(
            f"method {method}: train_output_layer needs an encoder-decoder; this backbone has no "
            "output layer, and the head is trained anyway"
        )
    return OutputLayer(model)
