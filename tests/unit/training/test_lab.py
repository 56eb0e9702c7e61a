"""The lab the whole way on tiny backbones: what it ships, what it keeps, and that it goes on after a kill."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adapters_store.adapter_file import read_adapter_file
from modeling import Backbone
from tests.tiny import CONFIGS, random_backbone, tiny_backbone
from tests.unit.training.conftest import Told, agree, make_rows, write_rows, write_text_task
from training.errors import ConfigError, TrainingFailedError
from training.lab import arms, bench
from training.lab.arms import HEAD_ALONE, UPPER, Arm, arms_for
from training.lab.bench import LabBench
from training.lab.search import _in_time, search
from training.lab.trial import Judge, Trial
from training.learning.material import prepare
from training.metrics.scores import Metric
from training.report.result import SeedOutcome, TrainResult, plain
from training.run import train
from training.settings.checks import seconds_of
from training.settings.config import TrainConfig
from training.tasks import TASKS


@pytest.fixture(autouse=True)
def few_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that train fast, and one that does not fit the tiny backbones."""
    monkeypatch.setattr(arms, "METHODS_TRIED", ("hadamard", "lora", "compacter_pp"))


def config_of(data: Path, out: Path, **changes: Any) -> TrainConfig:
    told: dict[str, Any] = {"data": str(data), "task": "demo", "out": str(out), "device": "cpu"}
    told |= {"precision": "float32", "method": "auto", "budget": "10m", "epochs": 6, "batch_size": 8}
    return TrainConfig(**told | changes)


def run(config: TrainConfig, backbone: Backbone, told: Told | None = None) -> TrainResult:
    return train(config, progress=told or Told(), backbone=backbone, verify=agree, search=search)


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """The arms and shares that are trained, in order."""
    done: list[tuple[str, float]] = []
    before = LabBench._outcome

    def outcome(self: LabBench, arm: Arm, share: float) -> SeedOutcome:
        found = before(self, arm, share)
        done.append((arm.name, share))
        return found

    monkeypatch.setattr(LabBench, "_outcome", outcome)
    return done


@pytest.mark.parametrize("drawn", [False, True], ids=["a validation file", "held-out train rows"])
def test_what_is_shipped_is_the_run_of_the_winner(
    task_folder: Callable[..., Path],
    tmp_path: Path,
    backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    drawn: bool,
) -> None:
    """An adapter here, whatever it is worth."""

    def an_adapter(finals: dict[Arm, Trial], *_: object) -> Arm:
        return next(arm for arm in finals if arm.method != HEAD_ALONE)

    monkeypatch.setattr("training.lab.search.smallest_of_best", an_adapter)
    data, told = task_folder(num_train=120, num_validation=60), Told()
    if drawn:
        (data / "validation.jsonl").unlink()
    result = run(config_of(data, tmp_path / "a.safetensors", validation_fraction=0.5), backbone, told)
    assert result.on_all_rows == drawn
    board = result.leaderboard
    assert board is not None
    (chosen,) = [line for line in board.standings if line.chosen]
    assert (chosen.method, chosen.share, board.num_untried) == (result.method, 1.0, 0)
    assert result.num_body_parameters > 0
    assert chosen.value == pytest.approx(result.value)
    assert board.spent_s <= board.budget_s
    file = read_adapter_file(tmp_path / "a.safetensors")
    provenance = file.manifest.provenance.config
    assert provenance["leaderboard"] == plain(board)
    assert (provenance["method"], provenance["lr"]) == (chosen.method, chosen.lr or 0.0)
    assert not (tmp_path / "a.safetensors.lab").exists()
    json.dumps(result.to_dict(), allow_nan=False)

    same: dict[str, Any] = {"method": chosen.method, "lr": chosen.lr, "budget": None}
    if chosen.layers is not None:
        same["method_config"] = {"layers": chosen.layers}
    run(config_of(data, tmp_path / "b.safetensors", validation_fraction=0.5, **same), backbone)
    again = read_adapter_file(tmp_path / "b.safetensors")
    assert file.tensors.keys() == again.tensors.keys()
    assert all(np.array_equal(file.tensors[name], again.tensors[name]) for name in file.tensors)


def test_upper_layers_begin_with_the_states_below_them(
    task_folder: Callable[..., Path], tmp_path: Path, outcomes: list[tuple[str, float]]
) -> None:
    """And give what the same run alone gives."""
    config = deepcopy(CONFIGS["bert"])
    config.num_hidden_layers = 4
    deep, data = random_backbone(config), task_folder()
    result = run(config_of(data, tmp_path / "a.safetensors", max_train_rows=30), deep)
    assert {name.split()[-1] for name, _ in outcomes} == {HEAD_ALONE, "all", UPPER}
    board = result.leaderboard
    assert board is not None
    upper = next(line for line in board.standings if line.layers == UPPER and line.share == 1.0)
    same = {"method": upper.method, "lr": upper.lr, "method_config": {"layers": UPPER}, "budget": None}
    alone = run(config_of(data, tmp_path / "b.safetensors", max_train_rows=30, **same), deep)
    assert alone.value == pytest.approx(upper.value)


def test_the_board_tells_of_every_arm_once(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    board = run(config_of(task_folder(), tmp_path / "a.safetensors"), backbone).leaderboard
    assert board is not None
    lines = [(line.method, line.lr, line.layers) for line in board.standings]
    assert len(set(lines)) == len(lines) == 1 + 3 * 3  # the head, and rates; two layers have no upper part
    failed = [line for line in board.standings if line.failed is not None]
    assert {line.method for line in failed} == {"compacter_pp"}
    assert "bottleneck" in str(failed[0].failed)
    shares = [line.share for line in board.standings if line.failed is None]
    assert shares == sorted(shares, reverse=True)
    assert board.standings[0].difference is None
    assert all(line.error is not None and line.error >= 0 for line in board.standings if not line.failed)


def test_a_killed_lab_goes_on(
    task_folder: Callable[..., Path],
    tmp_path: Path,
    backbone: Backbone,
    outcomes: list[tuple[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of(task_folder(), tmp_path / "a.safetensors")
    before = LabBench._tell

    def killed(self: LabBench, arm: Arm, share: float, trial: Trial) -> None:
        if len(outcomes) == 5:
            raise KeyboardInterrupt
        before(self, arm, share, trial)

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(LabBench, "_tell", killed)
        run(config, backbone)
    assert (tmp_path / "a.safetensors.lab").is_file()
    first, told = list(outcomes), Told()
    outcomes.clear()
    result = run(config, backbone, told)
    assert any("resumed from a.safetensors.lab" in note for note in told.notes)
    assert not set(first) & set(outcomes)
    whole = run(config_of(task_folder(), tmp_path / "b.safetensors"), backbone)
    assert (result.method, result.metrics) == (whole.method, whole.metrics)
    assert result.leaderboard is not None
    assert whole.leaderboard is not None
    found, wanted = (
        [(line.method, line.lr, line.share, line.value, line.difference) for line in board.standings]
        for board in (result.leaderboard, whole.leaderboard)
    )
    assert found == wanted


def test_the_time_of_what_was_tried_before_a_kill_counts(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, outcomes: list[tuple[str, float]]
) -> None:
    """A journal in which the first arm took an hour (for very much work) leaves nothing of ten minutes."""
    config, told = config_of(task_folder(), tmp_path / "a.safetensors"), Told()

    def slow(*asked: Any) -> Any:
        run, journal, seconds = asked
        lab = LabBench(run, journal, seconds)
        lab.warm_up()
        first = arms_for(run.config, layered=False)[0]
        share = lab.shares(first)[0]
        stored = lab.measure(first, share).to_plain() | {"seconds": 3600.0, "work": 1e12}
        journal.save(f"{first.name}, {share:.4f}", stored)
        return search(run, journal, seconds)

    result = train(config, progress=told, backbone=backbone, verify=agree, search=slow)
    assert result.method == HEAD_ALONE
    assert [name for name, _ in outcomes] == ["hadamard 0.01 all", HEAD_ALONE]
    assert result.leaderboard is not None
    assert result.leaderboard.num_untried == 8


def test_too_small_a_budget_ships_the_head_and_says_so(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    told = Told()
    result = run(config_of(task_folder(), tmp_path / "a.safetensors", budget="0.001s"), backbone, told)
    assert (result.method, result.num_body_parameters) == (HEAD_ALONE, 0)
    assert [note for note in told.notes if "the head alone is kept; give a larger --budget" in note]
    assert read_adapter_file(tmp_path / "a.safetensors").manifest.method.name == HEAD_ALONE


@pytest.mark.parametrize(
    ("left", "asked", "drawn", "wanted"),
    [
        (13.0, "auto", True, "auto"),
        (11.0, "auto", True, "head"),
        (11.0, "all", True, "all"),  # whoever asks for it gets it
        (11.0, "auto", False, "auto"),  # nothing was held out of the train rows: nothing is trained again
    ],
)
def test_without_time_for_all_rows_the_head_alone_has_them(
    task_folder: Callable[..., Path],
    tmp_path: Path,
    backbone: Backbone,
    left: float,
    asked: str,
    drawn: bool,
    wanted: str,
) -> None:
    """Of an arm that took ten seconds: a second training takes twelve."""
    config = config_of(task_folder(), tmp_path / "a.safetensors")
    chosen: list[str] = []

    def look(run: Any, journal: Any, seconds: float) -> Any:
        lab = LabBench(run, journal, seconds, lambda: 0.0)
        arm = Arm("hadamard", 1e-2)
        own = lab.run_of(arm)
        own.hyper, own.data = replace(own.hyper, refit=asked), replace(own.data, drawn=drawn)
        timed: Any = SimpleNamespace(run_of=lambda _: own, left=lambda: left)
        chosen.append(_in_time(timed, arm, replace(trial(np.ones(4), 0.9), seconds=10.0)).hyper.refit)
        return search(run, journal, seconds)

    train(config, progress=Told(), backbone=backbone, verify=agree, search=look)
    assert chosen == [wanted]


def test_every_seed_of_the_winner_is_trained(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    result = run(config_of(task_folder(), tmp_path / "a.safetensors", seeds=2, seed=3), backbone)
    assert set(result.seed_values) == {3, 4}


@pytest.mark.parametrize("kind", ["sentence_pair", "regression", "multi_label", "multiple_choice"])
def test_every_kind_with_a_head(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, kind: str
) -> None:
    config = config_of(task_folder(kind), tmp_path / "a.safetensors", budget="3s", epochs=1)
    board = run(config, backbone).leaderboard
    assert board is not None
    assert HEAD_ALONE in {line.method for line in board.standings}


def test_a_task_that_a_decoder_answers_has_no_head_to_fall_back_on(
    tmp_path: Path, outcomes: list[tuple[str, float]]
) -> None:
    """So the first arm that works is trained, whatever it takes."""
    data, told = write_text_task(tmp_path / "data", num_train=24, num_validation=12), Told()
    config = config_of(
        data, tmp_path / "a.safetensors", form="text-to-text", targets="words", budget="0.001s", epochs=1
    )
    result = run(config, tiny_backbone("t5"), told)
    assert outcomes == [("hadamard 0.01 all", 1.0)]
    assert result.method == "hadamard"
    assert [note for note in told.notes if "takes longer" in note]


def test_similarity_is_searched_too(tmp_path: Path, backbone: Backbone) -> None:
    for name, count in (("train", 32), ("validation", 16)):
        rows = make_rows("sentence_pair", count, count)
        scored = [row | {"label": row["label"] + 0.01 * place} for place, row in enumerate(rows)]
        write_rows(tmp_path / "data" / f"{name}.jsonl", scored)
    card = {"kind": "similarity", "text_fields": ["text", "text_pair"]}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(card))
    config = config_of(tmp_path / "data", tmp_path / "a.safetensors", epochs=2, budget="60s")
    board = run(config, backbone).leaderboard
    assert board is not None
    assert {line.method for line in board.standings} == {"hadamard", "lora", "compacter_pp"}


def test_where_every_arm_fails_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "METHODS_TRIED", ("compacter_pp",))
    data = write_text_task(tmp_path / "data", num_train=24, num_validation=12)
    config = config_of(data, tmp_path / "a.safetensors", form="text-to-text", targets="words", epochs=1)
    with pytest.raises(TrainingFailedError, match=r"none of 3 ways to train .* bottleneck"):
        run(config, tiny_backbone("t5"))
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "lora"}, "budget is '10m', and method lora takes as long as its epochs"),
        ({"budget": "soon"}, "allowed: a time over 0 such as 90s, 10m or 1h"),
        ({"budget": "0s"}, "allowed: a time over 0"),
        ({"lr": 0.1}, "lr is 0.1, and --method auto chooses that by measuring"),
        ({"method_config": {"rank": 2}}, "method_config is {'rank': 2}, and --method auto"),
        ({"recipe": "hadamard"}, "recipe is 'hadamard', and --method auto"),
        ({"epochs": 0}, "epochs is 0, and --method auto trains adapters"),
    ],
)
def test_what_contradicts_a_search_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config_of(tmp_path, tmp_path / "a.safetensors", **changes)
    assert told in str(refused.value)


def test_a_budget_is_read_in_every_unit() -> None:
    assert [seconds_of(text) for text in ("90s", "10m", "1.5h", "12")] == [90, 600, 5400, 12]
    assert config_of(Path("d"), Path("o"), budget=None).budget_s == 600


def test_a_search_that_is_not_given_is_missed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no search was given"):
        train(config_of(tmp_path, tmp_path / "a.safetensors"))


def test_arms_are_rates_around_the_default_and_layers(tmp_path: Path) -> None:
    config = config_of(tmp_path, tmp_path / "a.safetensors")
    layered, plain_arms = arms_for(config, layered=True), arms_for(config, layered=False)
    assert len(layered) == 2 * len(plain_arms) == 3 * 2 * 3
    assert layered[0] == Arm("hadamard", 0.01, "all")
    assert {arm.lr for arm in layered if arm.method == "lora"} == {0.003, 0.001, 0.009}
    text = arms_for(config_of(tmp_path, tmp_path / "a", form="text-to-text"), layered=False)
    assert {arm.lr for arm in text if arm.method == "compacter_pp"} == {0.003, 0.001, 0.009}


def trial(right: np.ndarray[Any, Any], confidence: float, size: int = 1) -> Trial:
    """Rows of class 0 of two, answered rightly or not, each as surely."""
    logits = np.where(right[:, None], [confidence, 0.0], [0.0, confidence]).astype(np.float32)
    loss = float(np.log1p(np.exp(-np.where(right, confidence, -confidence))).mean())
    return Trial(float(right.mean()), loss, logits, True, size, size, 1.0, 1.0)


@pytest.fixture
def judge() -> Judge:
    task = TASKS["single_sentence"].build(("a", "b"), Metric("accuracy"), None)
    return Judge(task, task.spec("mean"), [0] * 100)


def test_a_difference_of_the_metric_is_one(judge: Judge) -> None:
    one, other = trial(np.arange(100) < 90, 2.0), trial(np.arange(100) < 60, 2.0)
    assert judge.worse(one, other)
    assert not judge.worse(other, one)
    assert judge.difference(one, other).mean == pytest.approx(-0.3)
    assert judge.error(one) == pytest.approx(0.3 / 99**0.5)


def test_the_loss_decides_only_against_what_has_the_lower_metric(judge: Judge) -> None:
    sure, unsure = trial(np.arange(100) < 90, 2.0), trial(np.arange(100) < 89, 0.1)
    assert not judge.worse(sure, unsure)
    assert judge.worse_or_less_sure(sure, unsure)
    assert not judge.worse_or_less_sure(unsure, sure)
    equal = trial(np.arange(100) < 90, 0.1)
    assert not judge.worse_or_less_sure(sure, equal)


def test_a_trial_is_the_same_after_a_journal() -> None:
    before = trial(np.arange(10) < 5, 1.0)
    after = Trial.from_plain(before.to_plain())
    assert np.array_equal(before.logits, after.logits)
    assert (before.rank, before.seconds, before.file_bytes) == (after.rank, after.seconds, after.file_bytes)


def test_short_trials_have_a_share_of_the_steps(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 rows in batches of 8 are 8 steps: 48 in 6 epochs, a third of them is 16."""
    steps: dict[tuple[str, float], int] = {}

    def look(self: LabBench, arm: Arm, share: float) -> SeedOutcome:
        one = self.run_of(arm, share)
        adapter = one.create(0)
        plan, of_epoch = one.plan(adapter, 0)
        steps[arm.method, round(share, 2)] = 0 if plan is None else plan.epochs * of_epoch
        raise ConfigError("only looked at")

    monkeypatch.setattr(bench, "_FEWEST_STEPS", 5)
    monkeypatch.setattr(LabBench, "_outcome", look)
    with pytest.raises(TrainingFailedError):
        run(config_of(task_folder(), tmp_path / "a.safetensors"), backbone)
    assert steps["lora", 0.11] == 5
    assert steps["lora", 1.0] == 48


@pytest.mark.parametrize("pooling", ["apart", "mean"])
def test_every_arm_reads_pairs_as_the_run_does(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone, pooling: str
) -> None:
    """Whichever way was chosen before the search, by whoever."""
    seen: list[str] = []

    def look(*asked: Any) -> Any:
        run, journal, seconds = asked
        run.hyper = replace(run.hyper, pooling=pooling)
        run.material, _ = prepare(run.config, run.hyper, run.data, backbone)
        run.features = None
        chosen = search(run, journal, seconds)
        seen.append(chosen.run.hyper.pooling)
        return chosen

    config = config_of(task_folder("sentence_pair"), tmp_path / "a.safetensors", epochs=1)
    result = train(config, progress=Told(), backbone=backbone, write_file=False, search=look)
    assert seen == [pooling]
    assert result.hyper["pooling"] == pooling
