"""Which files of a folder are which split: named after it, in shards, in `data/`, or saved by `datasets`."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.rows.opening import FORMATS, format_of

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_SHARD = re.compile(r"[-_.]?(\d+)(?:-of-(\d+))?(?:-[0-9a-f-]+)?", re.ASCII)
"""`-00000-of-00002`, perhaps with a digest behind it, or a plain number."""


def find_splits(data: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each split in a folder, in order; a single file is the train split.

    Raises:
        DataError: nothing there, two candidates for one split, or a shard that is missing.
    """
    if data.is_file():
        return {"train": (data,)}
    if not data.is_dir():
        raise DataError(f"{data}: no such file or folder")
    if (data / "state.json").is_file():
        return {"train": _saved(data)}
    found: dict[str, list[tuple[Path, ...]]] = {}
    for folder in (data, data / "data"):
        for split, files in _named(folder):
            found.setdefault(split, []).append(files)
    for split, candidates in found.items():
        if len(candidates) > 1:
            both = " and ".join(str(files[0].relative_to(data)) for files in candidates[:2])
            raise DataError(f"{data}: both {both} are the {split} split; remove or rename one")
    if not found:
        there = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
        raise DataError(
            f"{data}: no file of a split; found {', '.join(there[:10]) or 'nothing'}; give the file itself, or "
            f"name it train with one of {', '.join(e for e in FORMATS[::-1] if e.count('.') == 1)}"
        )
    return {split: found[split][0] for split in SPLIT_NAMES if split in found}


def _named(folder: Path) -> list[tuple[str, tuple[Path, ...]]]:
    """Each candidate in `folder`: a split, and its file, its shards or the files in its own folder."""
    groups: dict[tuple[str, str, str, str], list[Path]] = {}
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = path.name.lower()
        if path.is_dir() and name in _SPLITS:
            found.append((_SPLITS[name], _in_folder(path)))
        elif path.is_file() and (ending := format_of(path)):
            word, shard = _parted(name.removesuffix(ending))
            if word in _SPLITS:
                total = (shard.group(2) or "any") if shard else path.name
                groups.setdefault((_SPLITS[word], word, ending, total), []).append(path)
    found += [(key[0], _in_order(files)) for key, files in groups.items()]
    return [(split, files) for split, files in found if files]


def _parted(stem: str) -> tuple[str, re.Match[str] | None]:
    """The word that a name begins with, and the number of a shard behind it."""
    word = re.match(r"[a-z]*", stem)
    rest = stem[word.end() :] if word else stem
    shard = _SHARD.fullmatch(rest)
    return (word.group() if word and (shard or not rest) else ""), shard


def _in_folder(folder: Path) -> tuple[Path, ...]:
    """All data files of a split's own folder."""
    if (folder / "state.json").is_file():
        return _saved(folder)
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and format_of(path)]
    endings = sorted({str(format_of(path)) for path in files})
    if len(endings) > 1:
        raise DataError(f"{folder}: files of several formats ({', '.join(endings)}); keep one")
    return _in_order(files)


def _in_order(files: Sequence[Path]) -> tuple[Path, ...]:
    """Files by their numbers. Raises DataError for a number that is missing."""
    shards = {path: re.search(r"(\d+)(?:-of-(\d+))?", path.name) for path in files}
    numbers = {path: int(shard.group(1)) for path, shard in shards.items() if shard}
    if len(numbers) < len(files):
        return tuple(files)
    ordered = sorted(files, key=lambda path: numbers[path])
    totals = {int(shard.group(2)) for shard in shards.values() if shard and shard.group(2)}
    first = 0 if totals else numbers[ordered[0]]
    last = max(totals, default=numbers[ordered[-1]] + 1)
    missing = sorted(set(range(min(first, 1), last)) - set(numbers.values()))
    if missing:
        raise DataError(
            f"{ordered[0].parent}: of the shards {ordered[0].name} to {ordered[-1].name}, number "
            f"{', '.join(map(str, missing[:5]))} is missing; download or copy it"
        )
    return tuple(ordered)


def _saved(folder: Path) -> tuple[Path, ...]:
    """The files that `Dataset.save_to_disk` lists."""
    state = folder / "state.json"
    try:
        stored: Any = json.loads(state.read_text(encoding="utf-8"))
        names = [str(file["filename"]) for file in stored["_data_files"]]
        indices = stored.get("_indices_data_files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{state}: not a state of a saved data set ({error!r}); save it again") from None
    if indices:
        raise DataError(f"{state}: its rows are chosen by an index; call flatten_indices() and save it again")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise DataError(f"{folder}: {', '.join(missing) or 'every file'} of state.json is missing; copy it")
    return tuple(folder / name for name in names)
