"""The made-up tasks of the unit tests, and tiny backbones as directories on disk: what a process can load."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.tiny import CONFIGS, random_model, tiny_model, tokenizer


def save_tiny(folder: Path, model_type: str) -> Path:
    """A tiny random model as `save_pretrained` writes it."""
    model = tiny_model(model_type)
    model.save_pretrained(folder)  # type: ignore[operator]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(model_type)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT."""
    return save_tiny(tmp_path_factory.mktemp("backbone") / "tiny-bert", "bert")


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random T5 over the made-up words."""
    return save_tiny(tmp_path_factory.mktemp("backbone") / "tiny-t5", "t5")


@pytest.fixture(scope="session")
def wordy_t5(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random T5 under the real T5 tokenizer, for real sentences and the papers' digits."""
    tokens = AutoTokenizer.from_pretrained(shared_data.parent / "tokenizers" / "t5")
    folder = tmp_path_factory.mktemp("backbone") / "wordy-t5"
    plain = CONFIGS["t5"].to_dict()
    plain |= {"vocab_size": 32_128, "pad_token_id": 0, "eos_token_id": 1}
    model = random_model(type(CONFIGS["t5"]).from_dict(plain))
    model.save_pretrained(folder)  # type: ignore[operator]
    tokens.save_pretrained(folder)
    return folder
