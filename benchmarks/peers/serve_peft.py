"""PEFT's LoRA of many tasks on one model: one active adapter behind a lock, or rows of many in a batch.

python -m benchmarks.peers.serve_peft locked|mixed MODEL_FOLDER PORT NUM_TASKS

Rank 8, query and value, with a head of its own for each task, as PEFT trains a classifier. `mixed` names the
adapter of each row (`adapter_names`, PEFT's inference with different adapters in one batch).
"""

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.peers.serving import Together, locked, serve


def name_of(task: int) -> str:
    """Of the adapter; the tasks of requests have the same names."""
    return f"task-{task:06d}"


def model_of(folder: str, num_tasks: int) -> Any:
    """The library's classifier with an adapter for each task."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=8,
        lora_alpha=16,
        target_modules=["query", "value"],
        init_lora_weights=False,
    )
    model = get_peft_model(base, config, adapter_name=name_of(0))
    for task in range(1, num_tasks):
        model.add_adapter(name_of(task), config)
    return model.eval()


def main() -> int:
    import torch
    from transformers import AutoTokenizer

    way, folder, port, num_tasks = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    tokenizer, model = AutoTokenizer.from_pretrained(folder), model_of(folder, num_tasks)
    names = model.config.id2label

    def rows(texts: Sequence[str], **more: Any) -> list[dict[str, Any]]:
        inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            scores = model(**inputs, **more).logits.softmax(-1)
        best = scores.max(-1)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [{"label": names[label], "score": score} for label, score in found]

    def one(task: str, text: str) -> Any:
        model.set_adapter(task)
        return rows([text])[0]

    def many(tasks: Sequence[str], texts: Sequence[str]) -> Sequence[Any]:
        return rows(texts, adapter_names=list(tasks))

    serve(Together(many) if way == "mixed" else locked(one), port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
