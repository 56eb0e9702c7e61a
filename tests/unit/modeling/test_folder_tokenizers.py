"""Tokenizers of a backbone's folder: the ids that its files say, or a refusal; never made-up ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

from modeling import BackboneError, load_backbone
from tests.folders import save_backbone, set_config, without_tokenizer
from tests.tiny import CONFIGS, tiny_backbone, tokenizer

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
TEXTS: list[Any] = ["w1 W2 w3", "", ("w4", "nothing known\t☃"), "  w5  w6 "]


def refusal(folder: Path) -> str:
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(folder: Path, built: Tokenizer, **settings: str) -> None:
    """Another tokenizer in the place of the folder's own."""
    without_tokenizer(folder)
    PreTrainedTokenizerFast(tokenizer_object=built, **settings).save_pretrained(folder)


def vocabulary(model_type: str) -> str:
    """The tokens of a tiny tokenizer, one on a line."""
    ids = tokenizer(model_type).get_vocab()
    return "\n".join(sorted(ids, key=ids.__getitem__)) + "\n"


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, model_type: str) -> None:
    folder = without_tokenizer(save_backbone(tmp_path, model_type))
    assert "there is no tokenizer (tokenizer.json, or a vocabulary such as vocab.txt)" in refusal(folder)
    (folder / SETTINGS).write_text('{"do_lower_case": true}')
    assert "there is no tokenizer" in refusal(folder)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_the_whole_tokenizer_is_taken_as_it_is(tmp_path: Path, model_type: str) -> None:
    """Whatever class is named beside it: the library would make another tokenizer of its vocabulary."""
    folder, own = save_backbone(tmp_path, model_type), tiny_backbone(model_type).text.encode(TEXTS)
    (folder / SETTINGS).unlink()
    assert load_backbone(str(folder)).text.encode(TEXTS) == own
    (folder / SETTINGS).write_text('{"tokenizer_class": "RobertaTokenizer"}')
    assert load_backbone(str(folder)).text.encode(TEXTS) == own


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "electra"])
def test_a_vocabulary_alone_is_enough_where_it_says_all(tmp_path: Path, model_type: str) -> None:
    folder = without_tokenizer(save_backbone(tmp_path, model_type))
    (folder / "vocab.txt").write_text(vocabulary(model_type))
    assert load_backbone(str(folder)).text.encode(TEXTS) == tiny_backbone(model_type).text.encode(TEXTS)


def test_a_cased_vocabulary_is_not_lower_cased_by_a_default(tmp_path: Path) -> None:
    folder = without_tokenizer(save_backbone(tmp_path, "bert"))
    (folder / "vocab.txt").write_text(vocabulary("bert").replace("w1\n", "W1\n"))
    assert "its vocabulary is cased ('W1' and 0 more)" in refusal(folder)
    (folder / SETTINGS).write_text('{"do_lower_case": false}')
    (encoded,) = load_backbone(str(folder)).text.encode(["W1 w2"])
    assert encoded.ids == [1, 5, 6, 2]


def test_half_of_a_vocabulary_is_none(tmp_path: Path) -> None:
    folder = without_tokenizer(save_backbone(tmp_path, "roberta"))
    (folder / "vocab.json").write_text(json.dumps(tokenizer("roberta").get_vocab()))
    assert "cannot be loaded: " in refusal(folder)
    (folder / "vocab.json").unlink()
    (folder / "vocab.txt").write_text(vocabulary("roberta"))
    assert "cannot be loaded: " in refusal(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"[]", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_a_damaged_tokenizer_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (save_backbone(tmp_path, "bert") / FILE).write_bytes(content)
    assert FILE in refusal(tmp_path)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_an_id_without_a_row_is_refused_and_fewer_ids_are_not(tmp_path: Path, model_type: str) -> None:
    folder, rows = save_backbone(tmp_path / "more", model_type), CONFIGS[model_type].vocab_size
    built = tokenizer(model_type)
    built.add_tokens(["more"])
    put(folder, built, pad_token="[PAD]")
    assert f"the tokenizer has ids up to {rows} ('more'), the embedding {rows} rows (0 to" in refusal(folder)
    plain = {k: v for k, v in CONFIGS[model_type].to_dict().items() if k != "model_type"}
    wide = type(CONFIGS[model_type])(**plain | {"vocab_size": rows + 12})
    assert load_backbone(str(save_backbone(tmp_path / "wide", wide))).config.vocab_size == rows + 12


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_padding_id_that_is_not_the_models_is_the_sign_of_another(tmp_path: Path, model_type: str) -> None:
    folder, mine = save_backbone(tmp_path, model_type), CONFIGS[model_type].pad_token_id
    other = "bert" if model_type == "mpnet" else "mpnet"
    put(folder, tokenizer(other), pad_token="[PAD]")
    told = f"the tokenizer's [PAD] has the id {1 - mine}, config.json says {mine} (pad_token_id)"
    if CONFIGS[model_type].is_encoder_decoder and model_type == "t5":
        told = "the tokenizer's [PAD]"
    assert told in refusal(folder)
    (folder / SETTINGS).write_text("{}")  # nothing says which token pads: the usual names do
    assert told in refusal(folder)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_special_tokens_are_where_the_model_reads_them(tmp_path: Path, model_type: str) -> None:
    folder, built = save_backbone(tmp_path, model_type), tokenizer(model_type)
    bare = Tokenizer(built.model)
    bare.normalizer, bare.pre_tokenizer = built.normalizer, built.pre_tokenizer
    put(folder, bare, pad_token="[PAD]")
    wanted = "behind a text" if CONFIGS[model_type].is_encoder_decoder else "puts nothing in front of a text"
    assert wanted in refusal(folder)


def test_another_end_of_a_sequence(tmp_path: Path) -> None:
    set_config(save_backbone(tmp_path, "t5"), eos_token_id=1)
    assert "puts [2] behind a text, and the model's end of a sequence is 1 (eos_token_id" in refusal(tmp_path)


def test_a_tokenizer_that_fails_at_an_unknown_character(tmp_path: Path) -> None:
    folder, built = save_backbone(tmp_path, "bert"), tokenizer("bert")
    built.model = WordPiece(built.get_vocab(), unk_token="<nothing>")
    put(folder, built, pad_token="[PAD]")
    assert "fails at a character that it does not know (WordPiece error: Missing" in refusal(folder)


def test_two_vocabularies_that_differ(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "bert")
    (folder / "vocab.txt").write_text(vocabulary("bert"))
    load_backbone(str(folder))
    (folder / "vocab.txt").write_text(vocabulary("bert").replace("w3\nw4\n", "w4\nw3\n"))
    assert "'w4' is 8 in tokenizer.json and 7 in vocab.txt: one of the two" in refusal(folder)
