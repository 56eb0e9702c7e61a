"""What does an encoder-decoder gain from running packed? T5-small's shape with random weights.

Label strings scored, and greedy text written, under one task as a ratio to the library's own padded model on
the same texts in the same run; and batches of as many tasks as rows as a ratio to those of one task. Lengths
are lognormal, 6 to 128 tokens. The variants take turns; medians of turns' ratios.

With `--processor-time` turns are timed in seconds of this process's processor, for machines that others use.

    python -m benchmarks.text_to_text [--rounds 8] [--rows 32] [--device cpu] [--processor-time]
"""

import random
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

from benchmarks import record, turns
from modeling import Backbone, Encoded, HeadSpec

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


def measure(num_rounds: int, rows: int, device: str, clock: Callable[[], float]) -> dict[str, Any]:
    """Every variant once per round on the same texts; medians of the per-round ratios."""
    rng = random.Random(0)
    backbone, library = backbone_and_library(device)
    other, _ = backbone_and_library(device)
    spec = HeadSpec("text_to_text", LABELS, "none")
    model, slots = turns.served(other, rows, METHOD_NAMES, [spec])
    alone, [slot] = turns.served(backbone, 1, METHOD_NAMES, [spec])
    same = [slot] * rows
    numbers = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}
    variants: dict[str, Callable[[list[Encoded]], object]] = {
        "scores, packed": lambda t: alone.run(t, same, list(enumerate(same))),
        "scores, padded (Hugging Face)": lambda t: library_scores(library, backbone, t),
        f"scores, {rows} tasks": lambda t: model.run(t, slots, list(enumerate(slots))),
        "greedy text, packed": lambda t: alone.generate_ids(t, same, NEW_TOKENS),
        "greedy text, padded (Hugging Face)": lambda t: library.generate(
            **padded(t, backbone.device), **numbers
        ),
        f"greedy text, {rows} tasks": lambda t: model.generate_ids(t, slots, NEW_TOKENS),
    }
    rounds = [[turns.random_texts(rows, rng, [], (3, 32_000), 1)] for _ in range(num_rounds + 1)]
    with torch.inference_mode():
        seconds = turns.take_turns(variants, rounds, rng, clock)
    ratios = {}
    for what in ("scores", "greedy text"):
        packed, tasks = f"{what}, packed", f"{what}, {rows} tasks"
        theirs = f"{what}, padded (Hugging Face)"
        ratios[f"{packed} / padded (Hugging Face)"] = turns.ratio(seconds, packed, theirs)
        ratios[f"{tasks} / packed"] = turns.ratio(seconds, tasks, packed)
    return {"origin": record.origin(), "rounds": num_rounds, "rows": rows, "throughput_ratios": ratios}


def main() -> int:
    parser = turns.options(__doc__, rounds=8, rows=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processor-time", action="store_true")
    args = parser.parse_args()
    clock = time.process_time if args.processor_time else time.perf_counter
    result = measure(args.rounds, args.rows, args.device, clock)
    turns.print_ratios(result)
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
