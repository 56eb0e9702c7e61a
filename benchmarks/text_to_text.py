"""What does an encoder-decoder gain from running packed? T5-small's shape with random weights.

Label strings scored, and greedy text written, by the packed backbone as a ratio to the library's own padded
model on the same texts in the same run; and served batches of as many tasks as rows as a ratio to the bare
packed backbone. Lengths are lognormal, 6 to 128 tokens. The variants take turns; medians of turns' ratios.

    python -m benchmarks.text_to_text [--rounds 8] [--rows 32] [--device cpu]
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSeq2SeqLM, T5Config

from benchmarks import record
from modeling import METHODS, Adapter, Backbone, Encoded, HeadSpec, ServedModel, decoding

NAME = "text_to_text"
LABELS = ("w5", "w6")
NEW_TOKENS = 16
METHOD_NAMES = ("hadamard", "compacter", "lora", "bitfit")
CONFIG = T5Config(vocab_size=32_100, decoder_start_token_id=0)


def backbone_and_library(device: str) -> tuple[Backbone, Any]:
    """The same random weights, packed and in the library's own model."""
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(deepcopy(CONFIG))
    library = deepcopy(model).eval().to(device)
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{f"w{i}": i for i in range(3, 100)}}
    tokenizer = Tokenizer(WordLevel(words, "<unk>"))
    tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return Backbone("t5-small", model.to(device), CONFIG, tokenizer, torch.float32), library


def random_texts(rows: int, rng: random.Random) -> list[Encoded]:
    """Sequences of lognormal length (median 20 tokens) with random ids."""
    texts = []
    for _ in range(rows):
        length = min(128, max(6, round(rng.lognormvariate(math.log(20), 0.8))))
        ids = [*(rng.randrange(3, 32_000) for _ in range(length - 1)), 1]
        texts.append(Encoded(ids, [0] * length, length, truncated=False))
    return texts


def padded(texts: list[Encoded], device: torch.device) -> dict[str, torch.Tensor]:
    """The library's inputs: ids and attention mask [B, L]."""
    longest = max(map(len, texts))
    ids = [e.ids + [0] * (longest - len(e)) for e in texts]
    mask = [[1] * len(e) + [0] * (longest - len(e)) for e in texts]
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }


def library_scores(library: Any, backbone: Backbone, texts: list[Encoded]) -> None:
    """Encoder once, then a decoder pass per label string."""
    inputs = padded(texts, backbone.device)
    states = library.encoder(**inputs)
    for ids in backbone.label_ids(LABELS):
        labels = torch.tensor(ids, device=backbone.device).repeat(len(texts), 1)
        logits = library(
            encoder_outputs=states, attention_mask=inputs["attention_mask"], labels=labels
        ).logits
        logits.log_softmax(-1).gather(-1, labels[..., None]).sum().item()


def packed_scores(backbone: Backbone, texts: list[Encoded]) -> None:
    """Encoder once, then all label strings in one decoder pass."""
    decoding.label_logits(backbone, backbone.pack(texts), backbone.label_ids(LABELS))


def served(backbone: Backbone, count: int) -> tuple[ServedModel, list[int]]:
    """A served model with `count` tasks, methods in turn, every parameter moved a little."""
    model, slots = ServedModel(backbone), []
    for i in range(count):
        method = METHODS[METHOD_NAMES[i % len(METHOD_NAMES)]].from_config({})
        adapter = Adapter.create(backbone, method, HeadSpec("text_to_text", LABELS, "none"), seed=i)
        with torch.no_grad():
            for parameter in adapter.body_parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        slots.append(model.install(adapter.pack()))
    return model, slots


def measure(rounds: int, rows: int, device: str) -> dict[str, Any]:
    """Every variant once per round on the same texts; medians of the per-round ratios."""
    rng = random.Random(0)
    backbone, library = backbone_and_library(device)
    other, _ = backbone_and_library(device)
    model, slots = served(other, rows)
    numbers = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}
    variants: dict[str, Callable[[list[Encoded]], object]] = {
        "scores, packed": lambda t: packed_scores(backbone, t),
        "scores, padded (Hugging Face)": lambda t: library_scores(library, backbone, t),
        f"scores, {rows} tasks": lambda t: model.run(t, slots, list(enumerate(slots))),
        "greedy text, packed": lambda t: decoding.generate_ids(backbone, backbone.pack(t), NEW_TOKENS),
        "greedy text, padded (Hugging Face)": lambda t: library.generate(
            **padded(t, backbone.device), **numbers
        ),
        f"greedy text, {rows} tasks": lambda t: model.generate_ids(t, slots, NEW_TOKENS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(rounds + 1):
        texts = random_texts(rows, rng)
        for name in sorted(variants, key=lambda _: rng.random()):
            start = time.perf_counter()
            with torch.inference_mode():
                variants[name](texts)
            if round_ > 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    ratios = {}
    for what in ("scores", "greedy text"):
        packed, theirs = f"{what}, packed", f"{what}, padded (Hugging Face)"
        ratios[f"{packed} / padded (Hugging Face)"] = _ratio(seconds[theirs], seconds[packed])
        ratios[f"{what}, {rows} tasks / packed"] = _ratio(seconds[packed], seconds[f"{what}, {rows} tasks"])
    return {"origin": record.origin(), "rounds": rounds, "rows": rows, "throughput_ratios": ratios}


def _ratio(base: list[float], other: list[float]) -> dict[str, float]:
    values = [b / o for b, o in zip(base, other, strict=True)]
    low, _, high = statistics.quantiles(values, n=4)
    return {"median": round(statistics.median(values), 3), "q1": round(low, 3), "q3": round(high, 3)}


def main() -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rows", type=int, default=32, help="rows per batch")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    result = measure(args.rounds, args.rows, args.device)
    print(f"{'throughput of A / B':52} median   (quartiles)")
    for name, value in result["throughput_ratios"].items():
        print(f"{name:52} {value['median']:6.3f}   ({value['q1']:.3f} to {value['q3']:.3f})")
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
