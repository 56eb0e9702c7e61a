"""Which files of a folder are which split: named so, in shards, in `data/`, or saved by `datasets`."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.rows.opening import format_of

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
_SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_NAMED = re.compile(rf"({'|'.join(_SPLITS)})(?:[-_.]?(\d+)(?:-of-(\d+))?(?:-[0-9a-f]+)?)?", re.ASCII)
"""A split's name, perhaps with the number of a shard and a digest: `train-00000-of-00002-0a1b2c`."""
_SHARD = re.compile(r"(\d+)(?:-of-(\d+))?", re.ASCII)
_STATE = "state.json"


_ABOUT = ("dataset.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", _STATE)
"""What describes a data set and is none."""


def find_splits(data: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each split in a folder, in order; a single file is the train split.

    Raises:
        DataError: nothing there, two candidates for one split, or a shard that is missing.
    """
    if data.is_file():
        return {"train": (data,)}
    if not data.is_dir():
        raise DataError(f"{data}: no such file or folder")
    if (data / _STATE).is_file():
        return {"train": _saved(data)}
    candidates: dict[str, dict[str, list[Path]]] = {split: defaultdict(list) for split in SPLIT_NAMES}
    for path in _files(data):
        if path.is_symlink() and not path.exists():
            raise DataError(f"{path}: a link to a file that is not there; copy the file")
        if named := _split_of(path.relative_to(data)):
            split, group = named
            candidates[split][group].append(path)
    for split, groups in candidates.items():
        if len(groups) > 1:
            both = " and ".join(str(files[0].relative_to(data)) for files in list(groups.values())[:2])
            raise DataError(f"{data}: both {both} are the {split} split; remove or rename one")
    found = {split: files for split, groups in candidates.items() for files in groups.values()}
    if not found:
        there = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
        names = ", ".join(there[:10]) or "nothing"
        raise DataError(
            f"{data}: no file of a split; found {names}; give a file itself, the folder where it is, or name "
            "it train.csv"
        )
    return {split: _in_order(files) for split, files in found.items()}


def unused_files(data: Path, found: Mapping[str, Sequence[Path]]) -> list[str]:
    """The data files of a folder that are of no split."""
    used = {path for files in found.values() for path in files}
    files = _files(data) if data.is_dir() else []
    return [str(path.relative_to(data)) for path in files if path not in used and path.name not in _ABOUT]


def _files(data: Path) -> list[Path]:
    """Of the folder, of `data/` in it, and of the splits' own folders in both."""
    roots = [folder for folder in (data, data / "data") if folder.is_dir()]
    inside = [path for root in roots for path in sorted(root.iterdir()) if path.name.lower() in _SPLITS]
    folders = [*roots, *filter(Path.is_dir, inside)]
    return [
        path
        for folder in folders
        for path in sorted(folder.iterdir())
        if not path.is_dir() and format_of(path)
    ]


def _split_of(path: Path) -> tuple[str, str] | None:
    """The split that a file belongs to, and a name for what belongs together."""
    own, ending = path.parent.name.lower(), str(format_of(path))
    if own in _SPLITS:
        return _SPLITS[own], str(path.parent)
    named = _NAMED.fullmatch(path.name.lower().removesuffix(ending))
    if named is None:
        return None
    group = f"{path.parent}/{named[1]}{ending} of {named[3]}" if named[2] else str(path)
    return _SPLITS[named[1]], group


def _in_order(files: Sequence[Path]) -> tuple[Path, ...]:
    """Files of one split by number or name. Raises DataError where one is missing, or formats differ."""
    folder = files[0].parent
    if (folder / _STATE).is_file():
        return _saved(folder)
    shards = [shard for path in files if (shard := _SHARD.search(path.name))]
    numbers = [int(shard[1]) for shard in shards]
    totals = {int(shard[2]) for shard in shards if shard[2]}
    if len({format_of(path) for path in files}) > 1 or len(totals) > 1:
        raise DataError(f"{folder}: {files[0].name} and {files[-1].name} are not of one series; remove one")
    if len(set(numbers)) < len(files):
        return tuple(files)
    counted = len(files) > 1 and (min(numbers) < 2 or shards[0][1].startswith("0"))
    expected = range(max(totals)) if totals else range(min(*numbers, 1), max(numbers) + 1) if counted else ()
    if missing := sorted(set(expected) - set(numbers)):
        there = ", ".join(path.name for path in files[:3])
        raise DataError(
            f"{folder}: there is {there}, and number {missing[0]} is missing; download or copy it"
        )
    return tuple(path for _, path in sorted(zip(numbers, files, strict=True)))


def _saved(folder: Path) -> tuple[Path, ...]:
    """The files that `Dataset.save_to_disk` lists."""
    try:
        state: Any = json.loads((folder / _STATE).read_bytes())
        files = tuple(folder / str(file["filename"]) for file in state["_data_files"])
        indexed = bool(state.get("_indices_data_files"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder / _STATE}: no state of a saved data set ({error!r}); save it again"
        ) from None
    if indexed:
        raise DataError(f"{folder / _STATE}: an index chooses its rows; flatten_indices(), and save it again")
    missing = [path.name for path in files if not path.is_file()]
    if missing or not files:
        raise DataError(
            f"{folder}: {', '.join(missing) or 'every file'} of {_STATE} is missing; save it again"
        )
    return files
