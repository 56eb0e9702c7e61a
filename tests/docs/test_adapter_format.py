"""docs/adapter_format.md names every tensor of every method with its shape, and its program runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modeling import METHODS, Adapter, Backbone, Site, Tap, load_backbone
from proof.check import check_file
from tests.conformance.checks import new, specs
from tests.conformance.options import tiny_options
from tests.docs.blocks import blocks_of
from tests.tiny import CONFIGS, VARIANTS, random_backbone

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adapter_format.md"
TABLE = re.compile(r"<!-- tensors of methods -->\n(.*?)<!-- end of tensors -->", re.DOTALL)
TENSOR = re.compile(r"`([a-z_.<>]+)` \[([^\]]*)\]")
PLACES = {site.value for site in Site} | {"shared", "weights"}
BACKBONES = {name: CONFIGS[name] for name in ("bert", "electra", "modernbert", "deberta", "t5", "bart")}
BACKBONES["t5 v1.1"] = VARIANTS["t5 v1.1"]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "hadamard": [{"placement": "post_dense", "norm": "both"}, {"norm": "output", "layers": [1]}],
    "houlsby": [{"pre_norm": True, "post_norm": True}],
    "pfeiffer": [{"placement": "feed_forward", "train_norms": False}],
    "phm": [{"factorised_rule": True}],
    "low_rank_adapter": [{"rank": 3}],
    "compacter": [{"rank": 2}, {"factorised_rule": True, "post_norm": True}, {"share_factors": True}],
    "compacter_pp": [{"share_factors": True, "factorised_rule": True}],
    "intrinsic_said": [{"projections": "stored"}],
    "prompt_tuning": [{"tokens": 3, "start": "vocabulary"}],
}
CASES = [(method, option) for method in METHODS for option in [{}, *OPTIONS.get(method, [])]]
BLOCKS = [name for name, method in METHODS.items() if hasattr(method, "train_output_layer")]


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    methods: frozenset[str]
    places: frozenset[str]
    tensors: Mapping[str, str]


def rows() -> list[Row]:
    (table,) = TABLE.findall(PAGE.read_text())
    found = []
    for line in table.splitlines()[2:]:
        method, places, _, tensors, _ = (cell.strip() for cell in line[1:-1].split("|"))
        found.append(
            Row(
                frozenset(re.findall(r"`(\w+)`", method)) & {*METHODS},
                frozenset(re.findall(r"`(\w+)`", places)) & PLACES,
                dict(TENSOR.findall(tensors)),
            )
        )
    return found


def sizes(adapter: Adapter, backbone: Backbone, tap: Tap | None, name: str) -> dict[str, int]:
    """What the page's symbols stand for; the blocks of the tiny backbones are all of one width."""
    config = adapter.method.config()
    known = {n.lower(): p.numel() for n, p in backbone.model.named_parameters()}
    parameter = known.get(name.removeprefix("weights/").rpartition(".")[0], 1)
    width = backbone.hidden_size if tap is None else tap.width
    return {
        "D": width,
        "H": backbone.hidden_size,
        "V": backbone.config.vocab_size,
        "I": 0 if tap is None else tap.dim_in,
        "O": 0 if tap is None else tap.dim_out,
        "r": config.get("bottleneck") or width // int(config.get("reduction_factor", 32)),
        "n": config.get("division", 0),
        "k": config.get("rank", 1),
        "R": config.get("rank", 0),
        "P": config.get("tokens", 0),
        "d": config.get("dimension", 0),
        "m": len(known),
        "Lp": 1 << (parameter - 1).bit_length(),
    }


def evaluated(dim: str, symbols: Mapping[str, int]) -> int:
    """A dimension as the page writes it: a symbol, a number, D/n, d − m − 1."""
    text = re.sub(
        r"[A-Za-z]+", lambda match: str(symbols[match[0]]), dim.replace("−", "-").replace("/", "//")
    )
    assert re.fullmatch(r"[0-9 +/-]+", text), dim
    return int(eval(text))


def documented(adapter: Adapter, backbone: Backbone, name: str) -> list[list[int]]:
    """The shapes that the page gives for a tensor of this name."""
    place, parameter = name.split("/", 1)
    tap = next((tap for tap in backbone.taps if tap.key == place), None)
    site = place if tap is None else tap.site.value
    symbols = sizes(adapter, backbone, tap, name)
    shapes = []
    for row in rows():
        if adapter.method.name not in row.methods or site not in row.places:
            continue
        for pattern, dims in row.tensors.items():
            form = re.escape(pattern).replace(re.escape("<parameter>"), ".+")
            if re.fullmatch(form, parameter):
                shapes.append([evaluated(dim, symbols) for dim in dims.split(", ")])
    return shapes


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return random_backbone(BACKBONES[request.param])


@pytest.mark.parametrize(("method", "option"), CASES, ids=str)
def test_every_tensor_is_documented_with_its_shape(
    backbone: Backbone, method: str, option: dict[str, Any]
) -> None:
    adapter = new(backbone, method, specs(backbone)[3], config=tiny_options(method) | option)
    tensors = adapter.to_tensors()
    if method == "full":
        own = {f"weights/{name.lower()}" for name, _ in backbone.model.named_parameters()}
        assert {name for name in tensors if not name.startswith("head/")} == own
        return
    for name, tensor in tensors.items():
        if not name.startswith("head/"):
            assert list(tensor.shape) in documented(adapter, backbone, name), (name, list(tensor.shape))


@pytest.mark.parametrize("method", BLOCKS)
@pytest.mark.parametrize("name", ["t5", "t5 v1.1", "bart"])
def test_a_trained_output_layer_is_documented(name: str, method: str) -> None:
    test_every_tensor_is_documented_with_its_shape(
        random_backbone(BACKBONES[name]), method, {"train_output_layer": True}
    )


def test_every_method_and_every_site_is_on_the_page() -> None:
    assert set().union(*(row.methods for row in rows())) == set(METHODS)
    text = PAGE.read_text()
    assert {site.value for site in Site if f"| `{site.value}` |" not in text} == set()


def test_the_program_of_the_page_writes_a_file_that_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = (block for block in blocks_of(PAGE) if block.language == "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(program.text, PAGE.name, "exec"), {})
    report = check_file((tmp_path / "by-hand.safetensors").read_bytes(), load_backbone("minilm"))
    assert (report.task, report.method) == ("by-hand", "compacter")
    assert report.digest == capsys.readouterr().out.strip()
