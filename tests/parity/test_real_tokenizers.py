"""The real T5 and RoBERTa/BART tokenizers in local directories: our ids are the library's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BartConfig, PreTrainedConfig, RobertaConfig, T5Config

from modeling import TextItem, load_backbone
from tests.tiny import CONFIGS, random_model, random_texts

pytestmark = pytest.mark.shared_data
SIZES: dict[str, tuple[type[PreTrainedConfig], str, dict[str, Any]]] = {
    "t5": (T5Config, "t5", {"vocab_size": 32128, "eos_token_id": 1}),
    "bart": (BartConfig, "roberta", {"vocab_size": 50265, "pad_token_id": 1, "bos_token_id": 0}),
    "roberta": (RobertaConfig, "roberta", {"vocab_size": 50265, "pad_token_id": 1}),
}
TEXTS: list[TextItem] = [
    "It's raining – again!",
    ("A man plays the guitar.", "Someone makes music?"),
    "Ünïcode 🙂",
    "",
]


@pytest.mark.parametrize("family", SIZES)
def test_a_local_directory_with_its_own_tokenizer(shared_data: Path, tmp_path: Path, family: str) -> None:
    kind, tokenizer, changes = SIZES[family]
    plain = {k: v for k, v in CONFIGS[family].to_dict().items() if k != "model_type"}
    random_model(kind(**plain | changes)).save_pretrained(tmp_path)  # type: ignore[operator]
    for file in (shared_data.parent / "tokenizers" / tokenizer).glob("*.*"):
        shutil.copyfile(file, tmp_path / file.name)
    backbone, library = load_backbone(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)
    items = [*TEXTS, *random_texts(5, seed=1, max_words=8)]
    for item, ours in zip(items, backbone.text.encode(items), strict=True):
        pair = (item,) if isinstance(item, str) else item
        assert ours.ids == library(*pair)["input_ids"]
    if backbone.is_encoder_decoder:
        strings = ["0", "1", "entailment", "not entailment"]
        assert backbone.label_ids(strings) == [library(text_target=s)["input_ids"] for s in strings]
        assert [backbone.text.decode(ids) for ids in backbone.label_ids(strings)] == strings
