"""A backbone's folder as its files tell: which part is the model, what is whole, what is something else.

It knows names, sizes and first bytes, not what the numbers are for; no network is built. Every refusal is one
sentence without the folder's name, which `load_backbone` puts in front.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import safe_open

from .errors import BackboneError, in_a_sentence

CONFIG, SENTENCE_MODULES, PEFT_CONFIG = "config.json", "modules.json", "adapter_config.json"
WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""What may hold the weights; the first that is there is read, as the library does."""

PARAMETERS = (".weight", ".bias")
"""How names of weights end; buffers of older releases have other names, and may be of any type."""

_FLOATS = {"F16", "BF16", "F32", "F64"}
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")
_LISTED = 5
_HEAD_BYTES = 64
_OLDER = "convert them with transformers 4: `AutoModel.from_pretrained(folder, {}=True).save_pretrained(new)`"
_OTHER_NAME = "PyTorch weights under a name that is not looked for"
# What a folder may hold instead of weights that are read: the ending, what it is, how to come by the others.
_OTHER_WEIGHTS = (
    (".safetensors", "weights under a name that is not looked for", "rename it to model.safetensors"),
    (".h5", "TensorFlow weights", _OLDER.format("from_tf")),
    (".msgpack", "Flax weights", _OLDER.format("from_flax")),
    (".ckpt.index", "a TensorFlow checkpoint", "take the PyTorch version of the model"),
    (".bin", _OTHER_NAME, "rename it to pytorch_model.bin if it holds the whole model"),
    (".pt", _OTHER_NAME, "save the model with `save_pretrained`"),
    (".pth", _OTHER_NAME, "save the model with `save_pretrained`"),
    (".onnx", "an ONNX graph", "take the folder that it was exported from"),
    ("onnx/*.onnx", "an ONNX graph", "take the folder that it was exported from"),
    (".gguf", "GGUF weights", "take the folder that they were made from"),
)
_NOT_FILES = (
    (
        b"version https://git-lfs",
        "the pointer of a large-file store (git LFS), not the file: run `git lfs pull` there, or download it",
    ),
    (b"<!doctype", "a web page, not the file: download it again"),
    (b"<html", "a web page, not the file: download it again"),
    (b"<?xml", "the answer of a server, not the file: download it again"),
    (b"entry not found", "the answer of a server that has no such file: download it again"),
)
_WHOLE = "Give a folder with config.json, model.safetensors and a tokenizer, as `save_pretrained` writes it"


def model_part(folder: Path) -> Path:
    """The folder of config and weights: this one, or the part that a sentence-transformers folder names.

    Raises BackboneError for a PEFT adapter, and where there is no model.
    """
    if (folder / PEFT_CONFIG).exists():
        raise BackboneError(_adapter_instead(folder))
    if (folder / SENTENCE_MODULES).exists():
        folder = _first_module(folder)
    if not (folder / CONFIG).exists() and not (folder / CONFIG).is_symlink():
        raise BackboneError(f"there is no {CONFIG}; found {found_in(folder)}{_other_weights(folder)}")
    return folder


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises BackboneError for anything else."""
    check_whole(file)
    with in_a_sentence(f"{file.name} cannot be read: {{}}; copy it again"):
        value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise BackboneError(f"{file.name} holds no JSON object ({{...}}); copy it again")
    return value


def check_whole(file: Path) -> None:
    """Raises BackboneError for a file that is missing, empty, or something in its place."""
    if not file.is_file():
        what = "is a link to nothing" if file.is_symlink() else "is not there"
        raise BackboneError(f"{file.name} {what}: copy the whole folder, or download it again")
    head = _head(file)
    if not head:
        raise BackboneError(f"{file.name} is empty (0 bytes): copy it again")
    for start, what in _NOT_FILES:
        if head.lstrip().lower().startswith(start):
            raise BackboneError(f"{file.name} is {what}")


def check_weights(folder: Path) -> tuple[Path, ...]:
    """The files of the weights, each whole as far as its header tells. Raises BackboneError."""
    name = next((name for name in WEIGHTS if _is_named(folder / name)), None)
    if name is None:
        hint = _other_weights(folder)
        raise BackboneError(f"there are no weights ({WEIGHTS[0]}); found {found_in(folder)}{hint}")
    files = _shards(folder / name) if name.endswith(".index.json") else (folder / name,)
    for file in files:
        check_whole(file)
        if file.suffix == ".safetensors":
            _check_header(file)
    return files


def found_in(folder: Path) -> str:
    """The first files of a folder by name, for a message."""
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more if names else "nothing: the folder is empty"


def _is_named(file: Path) -> bool:
    return file.exists() or file.is_symlink()  # a link to nothing is no reason to read something else


def _adapter_instead(folder: Path) -> str:
    base = read_json(folder / PEFT_CONFIG).get("base_model_name_or_path") or "its base model"
    return (
        f"it holds a PEFT adapter ({PEFT_CONFIG}) of {base}: give the base model itself, or the model merged"
        " with the adapter (`merge_and_unload()`, then `save_pretrained`), saved in a folder of its own"
    )


def _first_module(folder: Path) -> Path:
    """The folder of the model in one of sentence-transformers; what follows (pooling, norms) is not read."""
    with in_a_sentence(f"{SENTENCE_MODULES} lists no modules of sentence-transformers ({{}}); copy it again"):
        first = json.loads((folder / SENTENCE_MODULES).read_text(encoding="utf-8"))[0]
        kind, path = str(first["type"]), str(first["path"])
    place = PurePosixPath(path)
    if place.is_absolute() or ".." in place.parts:
        raise BackboneError(f"{SENTENCE_MODULES} names {path!r}, which is outside of the folder")
    if not (folder / place / CONFIG).exists():
        raise BackboneError(
            f"{SENTENCE_MODULES} begins with {kind} in {path!r}, where there is no {CONFIG}: only models of"
            " sentence-transformers that begin with a transformer can be read"
        )
    return folder / place


def _shards(index: Path) -> tuple[Path, ...]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(one, str) for one in names.values()):
        raise BackboneError(f"{index.name} has no weight_map of names to files; copy it again")
    files = sorted(set(names.values()))
    missing = [name for name in files if Path(name).name != name or not (index.parent / name).exists()]
    if missing:
        raise BackboneError(
            f"{index.name} names {len(files)} files and {len(missing)} are missing, the first {missing[0]}:"
            " copy the whole folder, or download it again"
        )
    return tuple(index.parent / name for name in files)


def _check_header(file: Path) -> None:
    """A header gives every tensor's place and type, so it tells whether the file is whole, and quantized."""
    if _head(file).startswith(_PICKLES):
        raise BackboneError(f"{file.name} is a pickle of PyTorch: rename it to pytorch_model.bin")
    told = f"{file.name} ({file.stat().st_size:,} bytes) is cut off, or no safetensors file ({{}})"
    with in_a_sentence(f"{told}: copy it again"), safe_open(file, framework="numpy") as opened:
        types = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118 - no dict
    other = [name for name, kind in types.items() if kind not in _FLOATS and name.endswith(PARAMETERS)]
    if other:
        told = f"{other[0]} is of type {types[other[0]]} ({len(other)} such weights): they are quantized"
        raise BackboneError(f"{told}; give the model before quantization")


def _head(file: Path) -> bytes:
    with in_a_sentence(f"{file.name} cannot be read: {{}}"), file.open("rb") as opened:
        return opened.read(_HEAD_BYTES)


def _other_weights(folder: Path) -> str:
    for ending, what, remedy in _OTHER_WEIGHTS:
        pattern = ending if "*" in ending else f"*{ending}"
        names = sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern))
        names = [name for name in names if name not in (*WEIGHTS, "training_args.bin")]
        if names:
            return f". {names[0]} is {what}: {remedy}"
    return f". {_WHOLE}"
