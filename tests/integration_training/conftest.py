"""The made-up tasks of the unit tests, and a tiny backbone as a directory on disk."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.tiny import tiny_model, tokenizer


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT as `save_pretrained` writes it: what another process can load."""
    folder = tmp_path_factory.mktemp("backbone") / "tiny-bert"
    model = tiny_model("bert")
    model.save_pretrained(folder)  # type: ignore[operator]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer("bert")).save_pretrained(folder)
    return folder
