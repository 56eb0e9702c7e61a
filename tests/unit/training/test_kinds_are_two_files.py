"""A new kind of task is two files (what logits mean, and how it is trained), a new readout is one.

Dropped into a package at run time, they are trained, published, checked as an upload is, and evaluated.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from modeling import READOUTS, Adapter, Backbone
from modeling.kinds import KINDS
from modeling.registry import discover
from proof.candidate import examine
from proof.check import CheckReport, check_file
from tests.conformance.options import tiny_options
from tests.unit.training.conftest import LABELS, Told, make_rows, quick, write_rows
from training.data.card import Flags
from training.file.evaluate import evaluate_file
from training.run import train
from training.tasks import TASKS

_KIND = '''
"""ladder: one of L levels in their order; the answer is the level nearest to the mean one."""
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from modeling.kinds.base import KINDS, Answer, Kind, best_first, check_labels, softmax

class Ladder(Kind):
    name = "ladder"
    readout = "READOUT"

    def decide(self, spec, logits, top_k=None, choices=()):
        chances = softmax(logits)
        places = np.rint(chances @ np.arange(chances.shape[1])).astype(int)
        return [
            Answer(spec.labels[place], float(chance[place]), dict(zip(names, scores)))
            for place, chance, (names, scores) in zip(
                places, chances, best_first(spec.labels, chances, top_k), strict=True
            )
        ]

    def loss(self, logits, targets, weights):
        levels = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)
        return mse_loss(logits.softmax(1) @ levels, targets.to(logits.dtype))

    def check(self, spec):
        return [*check_labels(spec, least=2), *self.check_options(spec)]

KINDS.add(Ladder())
'''
_TASK = '''
"""Levels as label names or their numbers; scored by how near the answer is."""
from dataclasses import dataclass
import numpy as np
from training.metrics.scores import Measures
from training.tasks.base import Baseline, Task, commonest, register

def closeness(truth, told):
    return float(1 - np.abs(np.array(truth) - np.array(told)).mean())

@register
@dataclass(frozen=True)
class Ladder(Task):
    kind = "ladder"
    data_kinds = {"ladder": (1,)}
    measures = Measures("ladder", "closeness", {"closeness": closeness})

    @classmethod
    def in_text(cls):
        return None

    def scores(self, logits, targets):
        return {"closeness": closeness(targets, [self.labels.index(label) for label in self.answers(logits)])}

    def baseline(self, train, targets):
        level = commonest(train)
        values = {"closeness": closeness(targets, [level] * len(targets))}
        return Baseline(f"commonest ({self.labels[level]})", values)
'''
_READOUT = '''
"""greatest: a head on the largest value that each number of a text's states has over its tokens."""
import torch
from torch import Tensor
from modeling.readouts.base import READOUTS
from modeling.readouts.pooled import Pooled

class Greatest(Pooled):
    name = "greatest"

    def states(self, backbone, hidden, batch, pooling):
        states, lengths = batch.text_only(hidden)
        return torch.segment_reduce(states.float(), "max", lengths=lengths).index_select(0, batch.inverse)

READOUTS.add(Greatest())
'''


@pytest.fixture(params=["pooled", "greatest"])
def readout(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kind, answered by a readout that is there or by one that comes with it."""
    name = str(request.param)
    package = tmp_path / f"added_by_{tmp_path.name}"  # imported once per process
    package.mkdir()
    files = {"__init__": "", "kind": _KIND.replace("READOUT", name), "task": _TASK}
    files |= {"readout": _READOUT} if name == "greatest" else {}
    for module, text in files.items():
        (package / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in (KINDS, READOUTS):
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    discover(package.name, [str(package)])
    yield name
    del TASKS["ladder"]


@pytest.mark.parametrize("method", ["linear_probe", "hadamard", "prompt_tuning"])
def test_a_new_kind_goes_the_whole_way(tmp_path: Path, backbone: Backbone, readout: str, method: str) -> None:
    """Trained better than its baseline, published, checked as an upload is, and evaluated as measured."""
    folder, out = tmp_path / "data", tmp_path / "a.safetensors"
    write_rows(folder / "train.jsonl", make_rows("single_sentence", 60, 1))
    write_rows(folder / "validation.jsonl", make_rows("single_sentence", 30, 2))
    flags = {"kind": "ladder", "label_names": tuple(LABELS)}

    def verify(path: Path, _: str) -> CheckReport:
        return check_file(path.read_bytes(), backbone)

    config = quick(folder, out, **flags, method=method, method_config=tiny_options(method))
    result = train(config, backbone=backbone, progress=Told(), verify=verify)
    assert (result.kind, result.metric, result.labels) == ("ladder", "closeness", tuple(LABELS))
    assert result.value > result.baseline.values["closeness"]

    report = check_file(out.read_bytes(), backbone)
    assert (report.kind, report.labels) == ("ladder", tuple(LABELS))
    assert report.probes.count == 30
    assert report.probes.max_difference < 1e-4

    found = evaluate_file(out, folder, backbone=backbone, flags=Flags(label_names=tuple(LABELS)))
    assert found.metrics == pytest.approx(result.metrics)
    assert {row.label for row in found.rows} <= set(LABELS)

    adapter = examine(out.read_bytes(), backbone).adapter(backbone)
    states = _states(backbone, adapter, str(found.texts[0]))
    read = normalize(states.mean(0), dim=0) if readout == "pooled" else states.max(0).values
    assert adapter.head is not None
    by_hand = adapter.head(read).tolist()
    assert found.rows[0].logits == pytest.approx(by_hand, abs=1e-4)


@torch.no_grad()
def _states(backbone: Backbone, adapter: Adapter, text: str) -> Tensor:
    """Of the text's own tokens, with the adapter."""
    virtual = adapter.virtual_tokens
    batch = backbone.pack(backbone.text.encode([text], 32), virtual)
    with adapter.attached(backbone), backbone.running(batch) as hidden:
        return hidden[virtual:]
