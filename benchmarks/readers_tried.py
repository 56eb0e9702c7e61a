"""Which library reads what people have? pyarrow, polars and duckdb on small awkward inputs, and ours.

Each input has the rows that it means, or none where it must be refused. A library gets what it offers for
all cells as text, and the separator. It is *right*, *refused* (it raises where there are rows to read), or
*silently wrong*: other rows, or any where it must refuse. One that is not installed is skipped, and that is
said: a scratch environment with all of them is enough.

    python -m benchmarks.readers_tried
"""

import csv as standard_csv
import gzip
import importlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[tuple[Any, ...]]
LONG, LONGER = "x" * 140_000, "y" * 5_000_000
HEAD = b"text,label\n"
ZSTD = bytes.fromhex("28b52ffd200f790000") + HEAD + b"a,x\n"


def _lines(*labels: str) -> bytes:
    return "".join(f'{{"text": "a", "label": {label}}}\n' for label in labels).encode()


INPUTS: dict[str, tuple[str, bytes, Rows | None]] = {
    "padded codes": ("a.csv", HEAD + b"a,01\nb,02\n", [("a", "01"), ("b", "02")]),
    "cells like nulls and numbers": ("a.csv", HEAD + b"NA,1e5\n,null\n", [("NA", "1e5"), ("", "null")]),
    "quoted line ends": ("a.csv", HEAD + b'"one\r\ntwo ""x""",a\r\n', [('one\r\ntwo "x"', "a")]),
    "semicolons, mark, CRLF": ("semicolons.csv", "\ufefftext;label\r\na, b;x\r\n".encode(), [("a, b", "x")]),
    "a row too short": ("a.csv", HEAD + b"a,x\nb\nc,y\n", None),
    "a row too long": ("a.csv", HEAD + b"a,x\nb,y,z\n", None),
    "a quote that nothing closes": ("a.csv", HEAD + b'a,x\n"b,y\nc,x\n', None),
    "text behind a closing quote": ("a.csv", HEAD + b'"a" b,x\n"c,y\nd" e,x\n', None),
    "TSV without quoting": ("a.tsv", b'text\tlabel\n"a\tx\nb"\ty\n', [('"a', "x"), ('b"', "y")]),
    "a cell of 140,000 characters": ("a.csv", HEAD + f"{LONG},x\n".encode(), [(LONG, "x")]),
    "a cell of 5 million": ("a.csv", HEAD + f"a,x\n{LONGER},y\n".encode(), [("a", "x"), (LONGER, "y")]),
    "cp1252 bytes": ("a.csv", HEAD + "café,x\n".encode("cp1252"), None),
    "a column name twice": ("a.csv", b"text,label,label\na,x,y\n", None),
    "JSON labels 1 and text 1": ("a.jsonl", _lines("1", '"1"'), [("a", 1), ("a", "1")]),
    "JSON labels 1 and true": ("a.jsonl", _lines("1", "true"), [("a", 1), ("a", True)]),
    "JSON labels 1 and 2.5": ("a.jsonl", _lines("1", "2.5"), [("a", 1), ("a", 2.5)]),
    "JSON labels like dates": ("a.jsonl", _lines('"2020-01-02"'), [("a", "2020-01-02")]),
    "JSON key twice": ("a.jsonl", b'{"text": "a", "label": 1, "label": 2}\n', None),
    "JSON half of an emoji": ("a.jsonl", b'{"text": "a\\ud83d", "label": 1}\n', [("a\ud83d", 1)]),
    "gzip": ("a.csv.gz", gzip.compress(HEAD + b"a,x\n"), [("a", "x")]),
    "zstd": ("a.csv.zst", ZSTD, [("a", "x")]),
    "gzip, cut off": ("a.csv.gz", gzip.compress(HEAD + b"a,x\n" * 50_000)[:-2000], None),
}


def with_pyarrow(path: Path, separator: str) -> Rows:
    from pyarrow import csv, json

    if path.suffix == ".jsonl":
        return _rows(json.read_json(path).to_pylist())
    parse = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    names = csv.open_csv(path, parse_options=parse).schema.names
    texts = csv.ConvertOptions(column_types=dict.fromkeys(names, "string"), strings_can_be_null=False)
    return _rows(csv.read_csv(path, parse_options=parse, convert_options=texts).to_pylist())


def with_polars(path: Path, separator: str) -> Rows:
    polars = importlib.import_module("polars")
    if path.suffix == ".jsonl":
        return _rows(polars.read_ndjson(path).to_dicts())
    table = polars.read_csv(path, separator=separator, infer_schema=False, empty_string_is_null=False)
    return _rows(table.to_dicts())


def with_duckdb(path: Path, separator: str) -> Rows:
    duckdb = importlib.import_module("duckdb")
    if path.suffix == ".jsonl":
        return list(duckdb.read_json(str(path)).fetchall())
    table = duckdb.read_csv(str(path), header=True, sep=separator, all_varchar=True, na_values="no such text")
    return list(table.fetchall())


def with_ours(path: Path, separator: str) -> Rows:
    from training.rows.tables import read_table

    del separator  # it is found
    table = read_table([path])
    return list(zip(*(table.values(name) for name in table.columns), strict=True))


Read = Callable[[Path, str], Rows]
READERS: dict[str, Read] = {
    "pyarrow": with_pyarrow,
    "polars": with_polars,
    "duckdb": with_duckdb,
    "training.rows": with_ours,
}


def _rows(found: list[dict[str, Any]]) -> Rows:
    return [tuple(row.values()) for row in found]


def judge(read: Read, path: Path, meant: Rows | None) -> str:
    """Right, refused or silently wrong; with what was given or said, shortened."""
    try:
        found = read(path, "\t" if path.suffix == ".tsv" else ";" if "semicolons" in path.name else ",")
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")[:100].replace(str(path.parent), "")
        return "right: refused" if meant is None else f"refused: {type(error).__name__}: {said}"
    same = meant is not None and [[(type(v), v) for v in row] for row in found] == [
        [(type(v), v) for v in row] for row in meant
    ]
    return "right" if same else f"silently wrong: {found!r:.100}"


def main() -> int:
    found: dict[str, dict[str, str]] = {}
    versions: dict[str, str] = {}
    standard_csv.field_size_limit(sys.maxsize)
    for name, read in READERS.items():
        library = name.split(".")[0]
        try:
            versions[name] = getattr(importlib.import_module(library), "__version__", "of this commit")
        except ImportError:
            print(f"{name} is not installed: skipped")
            continue
        for title, (file, content, meant) in INPUTS.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / file
                path.write_bytes(content)
                found.setdefault(title, {})[name] = judge(read, path, meant)
    for title, verdicts in found.items():
        print(f"\n{title}", *(f"  {name:14} {verdict}" for name, verdict in verdicts.items()), sep="\n")
    payload = {"versions": versions, "inputs": found}
    results = Path(__file__).parent / "results" / "readers_tried.json"
    results.write_text(json.dumps(payload, indent=1, sort_keys=True) + "\n")
    for name in versions:
        counts = Counter(verdicts[name].split(":")[0] for verdicts in found.values())
        print(f"{name}: {dict(counts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
