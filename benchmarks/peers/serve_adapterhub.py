"""AdapterHub's library: LoRA of many tasks on one model, one active adapter behind a lock.

python -m benchmarks.peers.serve_adapterhub MODEL_FOLDER PORT NUM_TASKS
"""

import sys
from typing import Any

from benchmarks.peers.serve_peft import name_of
from benchmarks.peers.serving import locked, serve


def model_of(folder: str, num_tasks: int) -> Any:
    """The library's model with an adapter and a classifier of one layer for each task."""
    from adapters import AutoAdapterModel, LoRAConfig

    model = AutoAdapterModel.from_pretrained(folder, local_files_only=True)
    for task in range(num_tasks):
        model.add_adapter(name_of(task), config=LoRAConfig(r=8, alpha=16))
        model.add_classification_head(name_of(task), num_labels=2, layers=1)
    return model.eval()


def main() -> int:
    import torch
    from transformers import AutoTokenizer

    folder, port, num_tasks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    tokenizer, model = AutoTokenizer.from_pretrained(folder), model_of(folder, num_tasks)

    def answer(task: str, text: str) -> Any:
        model.set_active_adapters(task)
        inputs = tokenizer(text, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            scores = model(**inputs).logits[0].softmax(-1)
        return {"label": f"LABEL_{int(scores.argmax())}", "score": float(scores.max())}

    serve(locked(answer), port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
