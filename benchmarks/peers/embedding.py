"""Unit-length embeddings as the model's card computes them: the mean over the tokens."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.peers.problem import Texts

Matrix = npt.NDArray[np.float32]
_BATCH_TEXTS = 64
_MAX_TOKENS = 256  # of MiniLM's own sentence_bert_config.json


@lru_cache(maxsize=1)
def _opened(backbone: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(backbone, local_files_only=True).to(device).eval()
    return model, AutoTokenizer.from_pretrained(backbone, local_files_only=True)


@torch.no_grad()
def embed(texts: Sequence[str], backbone: str, device: str) -> Matrix:
    """[N] texts -> [N, H], each of length 1."""
    model, tokenizer = _opened(backbone, device)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found = np.empty((len(texts), model.config.hidden_size), np.float32)
    for start in range(0, len(order), _BATCH_TEXTS):
        batch = order[start : start + _BATCH_TEXTS]
        inputs = tokenizer(
            [texts[index] for index in batch],
            padding=True,
            truncation=True,
            max_length=_MAX_TOKENS,
            return_tensors="pt",
        ).to(device)
        states = model(**inputs).last_hidden_state  # [B, T, H]
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        means = (states * mask).sum(1) / mask.sum(1)
        found[batch] = torch.nn.functional.normalize(means, dim=-1).float().cpu().numpy()
    return found


def features(rows: Sequence[Texts], backbone: str, device: str) -> Matrix:
    """u [N, H] of single texts; [u, v, |u - v|, u * v] [N, 4 H] of pairs."""
    parts = [embed(column, backbone, device) for column in zip(*rows, strict=True)]
    if len(parts) == 1:
        return parts[0]
    u, v = parts
    return np.concatenate([u, v, np.abs(u - v), u * v], axis=1)
