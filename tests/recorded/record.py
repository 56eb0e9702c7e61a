"""Writes the recordings beside it: backbones, adapter files of every method and kind, a store, all answers.

    python -m tests.recorded.record             minutes; it replaces what is there

Everything here was made by the code of 7a39e30 (this folder laid into a checkout of it), and is what later
code must load and answer alike: it is never made again with other code. To record more, name the new runs
in `RUNS` and keep the files that are there. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import BartConfig, BertConfig, PreTrainedTokenizerFast, T5Config

from adapters_store import AdapterStore, Manifest, read_adapter, read_adapter_file, write_adapter_file
from modeling import Backbone, ServedModel, load_backbone, readout_of
from tests.recorded import answers
from tests.recorded.answers import Item
from tests.tiny import CONFIGS, WORDS, random_model, tokenizer
from tests.unit.training.conftest import agree, quick, write_task, write_text_task
from tests.unit.training.test_free_text import write_answers
from training.run import train

HERE = Path(__file__).parent
SMALL = {
    "bert": BertConfig(
        **CONFIGS["bert"].to_dict()
        | {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "pad_token_id": 0}
    ),
    "t5": T5Config(**CONFIGS["t5"].to_dict() | {"d_model": 16, "num_heads": 2, "d_ff": 32}),
    "bart": BartConfig(
        **CONFIGS["bart"].to_dict()
        | {"d_model": 16}
        | {f"{stack}_attention_heads": 2 for stack in ("encoder", "decoder")}
        | {f"{stack}_ffn_dim": 32 for stack in ("encoder", "decoder")}
    ),
}
FREE, TEXT = "free_text", "text_to_text"  # beside the kinds of `write_task`
_BLOCK: dict[str, Any] = {"bottleneck": 4}
_HYPER: dict[str, Any] = {"bottleneck": 8, "division": 4}
_HALF: dict[str, Any] = {"file_dtype": "float16"}

Run = tuple[str, str, str, dict[str, Any], dict[str, Any]]
# A file each: its name; backbone, kind of data, method, options of the method, settings.
RUNS: dict[str, Run] = {
    "hadamard": ("bert", "single_sentence", "hadamard", {}, {}),
    "hadamard-layers": ("bert", "single_sentence", "hadamard", {"layers": [1], "norm": "both"}, {}),
    "hadamard-half": ("bert", "single_sentence", "hadamard", {"placement": "post_dense"}, _HALF),
    "bitfit": ("bert", "regression", "bitfit", {}, {}),
    "ln-tuning": ("bert", "multi_label", "ln_tuning", {"layers": "0-1"}, {}),
    "ia3": ("bert", "sentence_pair", "ia3", {}, {}),
    "lora": ("bert", "multiple_choice", "lora", {"rank": 4, "alpha": 8}, {}),
    "linear-probe": ("bert", "single_sentence", "linear_probe", {}, {"pooling": "first"}),
    "houlsby": ("bert", "single_sentence", "houlsby", _BLOCK | {"pre_norm": True, "post_norm": True}, {}),
    "pfeiffer": (
        "bert",
        "multi_label",
        "pfeiffer",
        {"placement": "feed_forward", "train_norms": False, "layers": [0], "reduction_factor": 4},
        {"pooling": "pooler"},
    ),
    "adapter-drop": ("bert", "single_sentence", "adapter_drop", _BLOCK | {"first_layer": 1}, {}),
    "low-rank-adapter": ("bert", "regression", "low_rank_adapter", _BLOCK | {"rank": 2}, {}),
    "phm": ("bert", "single_sentence", "phm", {"bottleneck": 4, "division": 2}, {}),
    "compacter": ("bert", "multiple_choice", "compacter", _HYPER | {"share_factors": True, "rank": 2}, {}),
    "compacter-half": ("bert", "sentence_pair", "compacter", _HYPER, _HALF),
    "compacter-pp": ("bert", "single_sentence", "compacter_pp", _HYPER | {"factorised_rule": True}, {}),
    "prompt-tuning": ("bert", "single_sentence", "prompt_tuning", {"tokens": 5, "start": "vocabulary"}, {}),
    "intrinsic-said": ("bert", "single_sentence", "intrinsic_said", {"dimension": 200}, {}),
    "intrinsic-said-stored": (
        "bert",
        "regression",
        "intrinsic_said",
        {"dimension": 100, "projections": "stored", "projection_seed": 7},
        {},
    ),
    "full": ("bert", "single_sentence", "full", {}, {}),
    "t5-single": ("t5", "single_sentence", "houlsby", _BLOCK, {}),
    "t5-regression": ("t5", "regression", "lora", {"rank": 2}, {}),
    "t5-multi": ("t5", "multi_label", "compacter", _HYPER, {}),
    "t5-choice": ("t5", "multiple_choice", "hadamard", {}, {}),
    "t5-text-bitfit": ("t5", TEXT, "bitfit", {}, {}),
    "t5-text-output": ("t5", TEXT, "compacter", _HYPER | {"train_output_layer": True}, {}),
    "t5-text-prompt": ("t5", TEXT, "prompt_tuning", {"tokens": 5, "start": "vocabulary"}, {}),
    "t5-text-said": ("t5", TEXT, "intrinsic_said", {"dimension": 200, "tied": "input"}, {}),
    "t5-free": ("t5", FREE, "pfeiffer", _BLOCK, {}),
    "t5-free-full": ("t5", FREE, "full", {}, _HALF),
    "bart-single": ("bart", "single_sentence", "prompt_tuning", {"tokens": 3}, {}),
    "bart-text": ("bart", TEXT, "lora", {"rank": 2}, {}),
    "bart-text-output": ("bart", TEXT, "houlsby", _BLOCK | {"train_output_layer": True}, {}),
    "bart-free": ("bart", FREE, "hadamard", {}, {}),
    "bart-free-full": ("bart", FREE, "full", {}, _HALF),
    "bart-free-said": ("bart", FREE, "intrinsic_said", {"dimension": 200}, {}),
}

# Files without what training always writes (options, threshold, range), each made of another.
BARE = {"ln-tuning-bare": "ln-tuning", "bitfit-bare": "bitfit"}


def main() -> None:
    """All of it, in the order in which each part needs the others."""
    for folder in ("backbones", "files", "store"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    for name in SMALL:
        save_backbone(name)
    with tempfile.TemporaryDirectory() as scratch:
        for name in RUNS:
            write_file(name, Path(scratch) / name)
        for name in BARE:
            write_bare(name)
        fill_store(HERE / "store")
        shutil.copytree(HERE / "store", Path(scratch) / "store")
        recorded = {
            "items": make_items(),
            "metrics": {name: metrics_of(name) for name in RUNS},
            "store": answers.contents(Path(scratch) / "store"),
            "backbones": {name: record(name, Path(scratch) / f"{name}-store") for name in SMALL},
        }
    write_json(HERE / "answers.json", recorded)  # unsorted: scores stand best first
    write_json(HERE / "openapi.json", answers.openapi(), sort_keys=True)


def save_backbone(name: str) -> None:
    """As a Hugging Face directory."""
    folder = HERE / "backbones" / name
    random_model(SMALL[name], seed=3).save_pretrained(folder)  # type: ignore[operator]  # as the library types it
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(name), **special).save_pretrained(folder)


def write_file(name: str, scratch: Path) -> None:
    """Train it."""
    backbone, kind, method, options, settings = RUNS[name]
    if kind == FREE:
        data, form = write_answers(scratch), {"form": "text-to-text", "kind": "free_text"}
    elif kind == TEXT:
        data, form = write_text_task(scratch), {"form": "text-to-text", "targets": "words"}
    else:
        data, form = write_task(scratch, kind), {}
    rate = 0.01 if method == "full" else 0.1  # far enough for every parameter to show
    settings = (
        {"lr": rate, "epochs": 8}
        | form
        | {"method": method, "method_config": options, "task": name}
        | settings
    )
    out = HERE / "files" / f"{name}.safetensors"
    train(quick(data, out, **settings), backbone=load(backbone), verify=agree)


def write_bare(name: str) -> None:
    """With the defaults of methods and heads."""
    file = read_adapter_file(HERE / "files" / f"{BARE[name]}.safetensors")
    plain = file.manifest.model_dump()
    plain["method"]["config"], plain["metrics"] = {}, None
    plain["head"] |= {"threshold": None, "low": None, "high": None}
    manifest = Manifest.model_validate(plain | {"task": name})
    write_adapter_file(HERE / "files" / f"{name}.safetensors", manifest, file.tensors)


def load(name: str) -> Backbone:
    """One of the recorded backbones."""
    return load_backbone(str(HERE / "backbones" / name))


def metrics_of(name: str) -> dict[str, float]:
    """What its training measured."""
    metrics = read_adapter_file(HERE / "files" / f"{name}.safetensors").manifest.metrics
    assert metrics is not None
    return metrics.values


def make_items() -> dict[str, Sequence[Item]]:
    """Six inputs of each form, the empty one and one that is cut among them."""
    chooser = random.Random(11)

    def text(words: int) -> str:
        return " ".join(chooser.choices(WORDS, k=words))

    sizes = (0, 1, 5, 9, 14, 70)
    return {
        "text": [text(size) for size in sizes],
        "pair": [{"text": text(size), "text_pair": text(1 + size // 2)} for size in sizes],
        "choices": [
            {"text": text(size), "choices": [text(1 + k) for k in range(2 + size % 3)]} for size in sizes
        ],
    }


def form_of(manifest: Manifest) -> str:
    """Which of the items a task takes."""
    if manifest.head.kind == "multiple_choice":
        return "choices"
    return "pair" if len(manifest.input.fields) == 2 else "text"


def fill_store(folder: Path) -> None:
    """Three tasks whose logs have every action; a fourth was deleted."""
    files = {name: (HERE / "files" / f"{name}.safetensors").read_bytes() for name in RUNS}
    seconds = iter(range(1_700_000_000, 1_800_000_000, 61))
    store = AdapterStore(folder, now_seconds=lambda: float(next(seconds)))
    for name in ("hadamard", "hadamard-layers", "hadamard-half"):
        store.publish("thirds", files[name])
    store.set_alias("thirds", "canary", 1)
    store.rollback("thirds")
    store.publish("number", files["bitfit"], alias="staging")
    store.publish("number", files["low-rank-adapter"])
    store.publish("number", files["intrinsic-said-stored"])
    store.delete_version("number", 1)
    store.publish("shared.file", files["hadamard"])
    store.publish("gone", files["ia3"])
    store.delete_task("gone")


def record(name: str, store: Path) -> dict[str, Any]:
    """What the tasks of one backbone answer: each alone, those that mix in one batch, and over HTTP."""
    backbone, items = load(name), make_items()
    files = {
        task: (HERE / "files" / f"{task}.safetensors").read_bytes()
        for task in (*RUNS, *BARE)
        if RUNS[BARE.get(task, task)][0] == name
    }
    forms = {task: form_of(read_adapter(data).manifest) for task, data in files.items()}
    model = ServedModel(backbone)
    tasks = {task: answers.install(model, data) for task, data in files.items()}
    mixing = [task for task in tasks if not answers.is_exclusive(model, tasks[task])]
    mixed = answers.logits_of(model, [(tasks[task], items[forms[task]]) for task in mixing])
    asked = {task: items[form] for task, form in forms.items()}
    return {
        "alone": {task: record_alone(backbone, data, forms[task]) for task, data in files.items()},
        "mixed": dict(zip(mixing, mixed, strict=True)),
        "served": answers.served(HERE / "backbones" / name, store, files, asked),
    }


def record_alone(backbone: Backbone, data: bytes, form: str) -> dict[str, Any]:
    """What one file answers on a model of its own."""
    model, items = ServedModel(backbone), make_items()[form]
    task = answers.install(model, data)
    (logits,) = answers.logits_of(model, [(task, items)])
    return {
        "form": form,
        "check": answers.check(data, backbone),
        "logits": logits,
        "answers": []
        if readout_of(task.spec).writes
        else [answers.decided(task.spec, row) for row in logits],
        "written": answers.written(model, task, items) if task.spec.kind == "text_to_text" else [],
    }


def write_json(path: Path, value: Any, *, sort_keys: bool = False) -> None:
    """Indented, so that a difference can be read."""
    path.write_text(json.dumps(value, indent=1, sort_keys=sort_keys) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
