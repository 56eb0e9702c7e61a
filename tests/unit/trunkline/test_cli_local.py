"""The commands that need no server, and the program as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.trunkline.conftest import Run

COMMANDS = ["train", "evaluate", "serve", "push", "predict", "tasks", "promote", "rollback", "delete"]
COMMANDS += ["methods", "inspect", "check", "compare"]


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )


def test_help_lists_every_command(run: Run) -> None:
    page = run("--help")
    assert page.exit_code == 0
    listed = {
        line.split()[1] for line in page.stdout.splitlines() if line.startswith("│ ") and line[2].isalpha()
    }
    assert set(COMMANDS) <= listed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(run: Run, command: str) -> None:
    page = run(command, "--help")
    assert page.exit_code == 0, page.output
    assert f"Example: trunkline {command}" in page.stdout
    assert run(command, "-h").stdout == page.stdout


def test_no_command_is_help_and_version_is_told(run: Run) -> None:
    assert "Usage: trunkline" in run().output
    assert run("--version").stdout.startswith("trunkline ")


def test_help_is_fast_because_it_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from trunkline.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'transformers', 'httpx', 'fastapi', 'numpy', 'training', 'service'}\n"
        "print(heavy & set(sys.modules))\n"
    )
    assert _python(code).stdout.strip() == "set()"


def test_help_answers_within_half_a_second() -> None:
    """Of the processor's time: other work may share the machine."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "trunkline", "--help"], capture_output=True, timeout=60, check=True)
    after = os.times()
    spent_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent_s < 0.5


def test_the_client_needs_no_torch() -> None:
    code = "import sys\nfrom trunkline import Client\nprint({'torch', 'pydantic'} & set(sys.modules))"
    assert _python(code).stdout.strip() == "set()"


def test_the_package_offers_its_names_and_no_others() -> None:
    import trunkline

    assert all(getattr(trunkline, name) is not None for name in trunkline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = trunkline.Nonsense


def test_serve_refuses_a_backbone_before_it_starts(run: Run, tmp_path: Path) -> None:
    done = run("serve", "--backbone", str(tmp_path), "--store", str(tmp_path / "store"))
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: backbone {str(tmp_path)!r} cannot be loaded: there is no config.json")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "text", "status", "says"),
    [
        ("TRUNKLINE_PORT", "tcp://10.96.0.12:8000", 1, "warning: ignored TRUNKLINE_PORT: Kubernetes"),
        ("TRUNKLINE_TOKN", "abcdefgh", 1, "warning: ignored TRUNKLINE_TOKN (is TRUNKLINE_TOKEN meant?)"),
        ("TRUNKLINE_TOKEN", "abcdefgh\n", 1, "warning: TRUNKLINE_TOKEN has white space"),
        ("TRUNKLINE_PORT", "", 1, ""),
        ("TRUNKLINE_PORT", "http", 2, "TRUNKLINE_PORT is 'http'"),
        ("TRUNKLINE_DEVICE", "tpu", 2, "TRUNKLINE_DEVICE is 'tpu'"),
        ("TRUNKLINE_CORS_ORIGINS", "*", 2, "any web page could upload"),
        ("TRUNKLINE_TOKEN", "'abcdefgh'", 2, "stands in quotes"),
    ],
)
def test_serve_takes_each_variable_for_what_it_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, status: int, says: str
) -> None:
    """Status 1 is that of a backbone that is not there, which is looked at after the settings."""
    monkeypatch.setenv(name, text)
    done = run("serve", "--backbone", str(tmp_path), "--store", str(tmp_path / "store"))
    assert done.exit_code == status
    assert says in done.stderr
    assert ("warning" in done.stderr) == says.startswith("warning")


def test_a_flag_that_is_wrong_is_called_by_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_PORT", "http")
    done = run("serve", "--port", "70000", "--max-items", "0")
    assert done.exit_code == 2
    assert "--port is 70000" in done.stderr
    assert "--max-items is 0" in done.stderr
    assert "TRUNKLINE_PORT" not in done.stderr


def test_methods_counts_what_the_paper_counts(run: Run) -> None:
    """Two vectors and a norm in each of 12 layers of width 768: Chen et al. 2023, arXiv 2407.11033."""
    found = run("methods", "--backbone", "bert-base", "--json")
    assert found.exit_code == 0, found.output
    rows = {row["method"]: row for row in json.loads(found.stdout)}
    assert rows["hadamard"]["parameters"] == 36_864
    assert rows["hadamard"]["backbone"] == "bert-base"
    assert rows["linear_probe"]["parameters"] == 0
    assert rows["linear_probe"]["parameters_with_head"] == 2 * 769


@pytest.mark.parametrize(
    ("backbone", "method", "config", "count", "with_head"),
    [
        ("t5-base", "compacter", "division=4", 161_728, 24_814_528),
        ("t5-base", "compacter", "division=8", 162_176, 24_814_976),
        ("t5-base", "compacter", "division=12", 163_392, 24_816_192),
        ("t5-small", "phm", "division=16", 250_240, 16_685_440),
        ("t5-base", "bitfit", "layers=all", 280_932, 24_933_732),
        ("t5-base", "bitfit", "train_output_layer=true", 24_933_732, 24_933_732),
    ],
)
def test_methods_counts_the_table_of_compacter(
    run: Run, backbone: str, method: str, config: str, count: int, with_head: int
) -> None:
    """Karimi Mahabadi et al. 2021, arXiv 2106.04647, table 1 and its variants with the output layer."""
    found = run("methods", "--backbone", backbone, "--method", method, "--method-config", config, "--json")
    assert found.exit_code == 0, found.output
    (row,) = json.loads(found.stdout)
    assert (row["parameters"], row["parameters_with_head"]) == (count, with_head)


def test_methods_says_which_defaults_do_not_fit(run: Run, tmp_path: Path) -> None:
    from transformers import BertConfig

    narrow = {"hidden_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40}
    BertConfig(**narrow).save_pretrained(tmp_path)
    found = run("methods", "--backbone", str(tmp_path))
    assert found.exit_code == 0, found.output
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if line.strip()}
    assert "needs other options here" in lines["compacter"]
    assert "needs other options here" not in lines["hadamard"]


@pytest.mark.parametrize(
    ("backbone", "layers", "count"), [("bert-base", "4-11", 24_576), ("bert-large", "all", 98_304)]
)
def test_methods_counts_one_method_with_its_settings(
    run: Run, backbone: str, layers: str, count: int
) -> None:
    options = ["--method", "hadamard", "--method-config", f"layers={layers}", "--labels", "3"]
    found = run("methods", "--backbone", backbone, *options, "--json")
    (row,) = json.loads(found.stdout)
    assert row["parameters"] == count
    assert row["head_parameters"] % 3 == 0


def test_methods_as_a_table(run: Run) -> None:
    found = run("methods", "--backbone", "bert-base")
    line = next(line for line in found.stdout.splitlines() if line.split()[:1] == ["hadamard"])
    assert line.split()[1:5] == ["36,864", "0.0337", "%", "38,402"]


def test_methods_says_what_the_columns_mean_where_text_is_written(run: Run) -> None:
    told = "files hold no head, and --labels does not apply"
    options = ["--method", "compacter"]
    assert told in run("methods", "--backbone", "t5-base", *options).stdout
    assert told not in run("methods", "--backbone", "bart-base", *options).stdout
    for backbone, form, noted in (
        ("t5-base", [], True),
        ("t5-base", ["--form", "head"], False),
        ("bart-base", ["--form", "text-to-text"], True),
        ("bert-base", [], False),
    ):
        (row,) = json.loads(run("methods", "--backbone", backbone, *form, *options, "--json").stdout)
        assert (told in row["note"]) == noted


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["--backbone", "nonsense"], 1, "unknown architecture 'nonsense'; known: minilm"),
        (["--method", "nonsense"], 2, "unknown method 'nonsense'; known: "),
        (["--method", "hadamard", "--method-config", "lyers=1"], 2, "lyers"),
        (["--method", "compacter", "--method-config", "division=5"], 1, "choose `division` among them"),
        (["--method-config", "layers=1"], 2, "--method-config needs --method"),
        (["--method", "hadamard", "--method-config", "layers"], 2, "NAME=VALUE"),
        (["--method", "hadamard", *["--method-config", "norm=both"] * 2], 2, "gives norm twice"),
        (["--form", "text"], 2, "--form is 'text'; allowed: head, text-to-text"),
        (["--backbone", "bert-base", "--form", "text-to-text"], 1, "needs an encoder-decoder"),
    ],
)
def test_methods_refuses_with_a_reason(run: Run, args: list[str], status: int, says: str) -> None:
    found = run("methods", *args)
    assert found.exit_code == status
    assert says in found.stderr
    assert "Traceback" not in found.output
