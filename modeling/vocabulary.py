"""The tokenizer of a backbone's folder: read as its file says, and refused where it cannot be the model's.

`tokenizer.json` is the whole tokenizer and is taken as it is. The library would make another one from its
vocabulary where no file names a class for it, and one with an empty vocabulary where there are no files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedConfig
from transformers.utils import cached_file

from .backbone import family_of
from .errors import BackboneError, in_a_sentence
from .folder import check_whole, read_json
from .text import TextEncoder, Tokens

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
# What a tokenizer can be made of where it has not been saved whole.
_VOCABULARIES = ("vocab.txt", "vocab.json", "spiece.model", "spm.model", "sentencepiece.bpe.model")
_PADS = ("[PAD]", "<pad>")
_COPY = "copy the tokenizer's files from where the model came from"
_UNUSUAL = "\U000e0fff \u0378 \u2603 qzxj"  # no vocabulary has all of it


def read_tokenizer(source: str) -> Tokenizer:
    """The tokenizer of a folder or hub id. Raises BackboneError: there is none, or it cannot be read."""
    vocabularies = [path for name in _VOCABULARIES if (path := _file(source, name)) is not None]
    for path in vocabularies:
        check_whole(path)
    file = _file(source, FILE)
    if file is not None:
        check_whole(file)
        with in_a_sentence(f"{FILE} cannot be read ({{}}): {_COPY}"):
            tokenizer = Tokenizer.from_file(str(file))
        _check_agreement(tokenizer, vocabularies)
        return tokenizer
    if not vocabularies:
        raise BackboneError(f"there is no tokenizer ({FILE}, or a vocabulary such as vocab.txt): {_COPY}")
    with in_a_sentence(f"no tokenizer can be made of {vocabularies[0].name} ({{}}): {_COPY}"):
        made = AutoTokenizer.from_pretrained(source)
    _check_made(source, made)
    return _without_made_up(source, made.backend_tokenizer, vocabularies)


def check_tokenizer(tokenizer: Tokenizer, source: str, config: PreTrainedConfig, rows: int) -> None:
    """Whether it can be the one of a model with `rows` embeddings. Raises BackboneError.

    Fewer ids than rows are usual: tables are padded.
    """
    ids = tokenizer.get_vocab(with_added_tokens=True)
    token, last = max(ids.items(), key=lambda one: one[1], default=("", -1))
    if last >= rows:
        raise BackboneError(
            f"the tokenizer has ids up to {last} ({token!r}), the embedding {rows} rows (0 to {rows - 1}): it"
            f" is another model's, or tokens were added without `resize_token_embeddings`; {_COPY}"
        )
    _check_special(tokenizer, config)
    _check_padding(tokenizer, source, config)


def _file(source: str, name: str) -> Path | None:
    """A file of a folder, or of a hub id where it can be had."""
    found = cached_file(
        source,
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _check_agreement(tokenizer: Tokenizer, vocabularies: list[Path]) -> None:
    """A vocabulary beside the whole tokenizer that gives a token another id is of another model."""
    for path in vocabularies:
        for token, number in _listed(path).items():
            own = tokenizer.token_to_id(token)
            if own not in (None, number):
                told = f"{token!r} is {own} in {FILE} and {number} in {path.name}"
                raise BackboneError(f"{told}: one of the two is another model's; {_COPY}")


def _listed(vocabulary: Path) -> dict[str, int]:
    """The tokens of a plain vocabulary with their ids; of a sentencepiece model none."""
    if vocabulary.suffix == ".json":
        return {token: number for token, number in read_json(vocabulary).items() if isinstance(number, int)}
    if vocabulary.suffix == ".txt":
        lines = vocabulary.read_text(encoding="utf-8", errors="replace").split("\n")
        return {line.rstrip("\r"): number for number, line in enumerate(lines) if line.strip()}
    return {}


def _check_made(source: str, made: Any) -> None:
    """A class whose files are not all there has made up what it lacks."""
    name = type(made).__name__
    wanted = [file for key, file in made.vocab_files_names.items() if key != "tokenizer_file"]
    missing = [file for file in wanted if _file(source, file) is None]
    if missing:
        raise BackboneError(f"{name} needs {', '.join(missing)} where there is no {FILE}: {_COPY}")
    if getattr(made, "backend_tokenizer", None) is None:
        raise BackboneError(f"{name} is no fast tokenizer: convert it to one with a {FILE}")
    settings = _file(source, SETTINGS)
    stated = {} if settings is None else read_json(settings)
    cased = [token for token in made.get_vocab() if token != token.lower() and token[0] not in "[<"]
    if cased and _lowers(made.backend_tokenizer) and "do_lower_case" not in stated:
        raise BackboneError(
            f"its vocabulary is cased ({min(cased)!r} and {len(cased) - 1} more), yet texts would be"
            f" lower-cased, as no {SETTINGS} says do_lower_case: {_COPY}"
        )


def _without_made_up(source: str, tokenizer: Tokenizer, vocabularies: list[Path]) -> Tokenizer:
    """Without tokens that a class adds behind a plain vocabulary because others have them, such as [MASK].

    No row of an embedding stands for them. What stands around a text is kept, and checked as the rest is.
    """
    listed = {token for path in vocabularies for token in _listed(path)}
    if not listed:
        return tokenizer
    plain = json.loads(tokenizer.to_str())
    files = (_file(source, name) for name in (SETTINGS, "added_tokens.json", "special_tokens_map.json"))
    said = json.dumps(plain["post_processor"]) + "".join(file.read_text() for file in files if file)
    plain["added_tokens"] = [
        token
        for token in plain["added_tokens"]
        if token["content"] in listed or json.dumps(token["content"]) in said
    ]
    return Tokenizer.from_str(json.dumps(plain))


def _lowers(tokenizer: Tokenizer) -> bool:
    return tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("A") == "a"


def _around_a_text(tokenizer: Tokenizer, max_tokens: int) -> tuple[list[int], list[int]]:
    """The special tokens in front of a text and behind it."""
    with in_a_sentence(f"the tokenizer fails at a character that it does not know ({{}}): {_COPY}"):
        tokenizer.encode(_UNUSUAL)
    with in_a_sentence(f"the tokenizer cannot be used ({{}}): {_COPY}"):
        ids = TextEncoder(tokenizer, max_tokens).assemble(Tokens([-1], None)).ids
    return ids[: ids.index(-1)], ids[ids.index(-1) + 1 :]


def _check_special(tokenizer: Tokenizer, config: PreTrainedConfig) -> None:
    family = family_of(config)
    front, behind = _around_a_text(tokenizer, family.max_tokens(config))
    if family.seq2seq is None and not (front and behind):
        raise BackboneError(
            f"the tokenizer puts {front or 'nothing'} in front of a text and {behind or 'nothing'} behind it,"
            f" where a {family.name} model reads a special token at each end: {_COPY}"
        )
    if family.seq2seq is not None and behind[-1:] != [config.eos_token_id]:
        raise BackboneError(
            f"the tokenizer puts {behind or 'nothing'} behind a text, and the model's end of a sequence is"
            f" {config.eos_token_id} (eos_token_id in config.json): {_COPY}"
        )


def _check_padding(tokenizer: Tokenizer, source: str, config: PreTrainedConfig) -> None:
    """Nothing is padded here, but ids that differ are the sign of a tokenizer of another model."""
    token = _pad_token(source)
    names = [name for name in ([token] if token else _PADS) if tokenizer.token_to_id(name) is not None]
    if not names or config.pad_token_id is None:
        return
    (name, *_), wanted = names, config.pad_token_id
    if tokenizer.token_to_id(name) != wanted:
        raise BackboneError(
            f"the tokenizer's {name} has the id {tokenizer.token_to_id(name)}, config.json says {wanted}"
            f" (pad_token_id): if the tokenizer is the model's, write its id there, else {_COPY}"
        )


def _pad_token(source: str) -> str | None:
    for name in (SETTINGS, "special_tokens_map.json"):
        file = _file(source, name)
        token = None if file is None else read_json(file).get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            return token
    return None
